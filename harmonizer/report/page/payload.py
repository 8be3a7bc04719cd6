"""The data of the page's script, as JSON values."""

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import matplotlib
import numpy as np

from harmonizer.report.data import AXES, RMS, Model, Score, comparable, input_sizes
from harmonizer.report.examples import HEAT, Example, Pictures, magnification_for, read_examples, shared_keys
from harmonizer.report.further import further_axes
from harmonizer.report.page.pictures import PictureBook
from harmonizer.report.paired import Comparison
from harmonizer.report.sources import Source
from harmonizer.report.survival import last_radius, survival_of
from harmonizer.report.tables import own_accuracy
from harmonizer.results import RADIUS
from harmonizer.results.families import FAMILIES
from harmonizer.statistics import FEWEST_RANKED, STATUSES, Status

BINS, POINTS = 24, 61  # bins of the histogram of radii, points of the survival curve
MOST_PICTURED = 600  # most examples in the page, of about 15 kB each


def payload(
    models: Sequence[Model],
    sources: Sequence[Source],
    correlations: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    *,
    titles: Mapping[str, str],
    grid: tuple[Sequence[Model], Sequence[str]],
    categories: Mapping[str, str],
) -> dict[str, Any]:
    """Return the data of the page's script.

    The arguments are those of :func:`harmonizer.report.page.page_html`, except that ``grid`` contains the models and
    the images of the grid; without images, it shows the first ones that the models share.
    """
    book, index = PictureBook(), {id(model): i for i, model in enumerate(models)}
    each = max(1, min(4, MOST_PICTURED // max(1, sum(model.results is not None for model in models))))
    shown = [read_examples(model, categories=categories) for model in grid[0]]
    keys = shared_keys(shown, grid[1])
    controls = {(model.source, model.name): i for i, model in enumerate(models)}
    described, counted = [], set(map(id, comparable(models)))
    for model in models:
        entry = _model(model, sources) | {
            "control": controls.get((model.source, model.control or "")),
            "counted": id(model) in counted,
            "examples": [_example(example, book) for example in read_examples(model, each, categories).values()]
            or None,
        }
        described.append({key: value for key, value in entry.items() if value is not None and value is not False})
    rows = [
        {"model": index[id(model)], "examples": [_example(found[key], book) for key in keys]}
        for model, found in zip(grid[0], shown, strict=True)
    ]
    shown_axes = AXES | (RMS if len(input_sizes(models)) > 1 else {}) | further_axes(models)
    content: dict[str, Any] = _plain(
        {
            "axes": {
                key: {"title": titles.get(key, axis.title), "short": axis.short, "digits": axis.digits}
                for key, axis in shown_axes.items()
            },
            "families": FAMILIES,
            "sources": [{"name": source.name, "protocol": source.protocol} for source in sources],
            "models": described,
            "correlations": list(correlations),
            "comparisons": [_comparison(pair, index) for pair in comparisons],
            "fewest": FEWEST_RANKED,
            "grid": rows if keys else None,
            "magnification": magnification_for([found[key] for found in shown for key in keys]),
            "palette": _palette() if book.images else "",
        }
    )
    return content | {"pictures": list(book.images)}


def _model(model: Model, sources: Sequence[Source]) -> dict[str, Any]:
    """Return the data of a model; published models lack some fields."""
    published = [source.name for source in sources if source.citation]
    described = {
        "name": model.name,
        "architecture": model.architecture,
        "family": model.family,
        "source": model.source,
        "measured": model.results is not None,
        "hollow": model.results is None and published.index(model.source) % 2 == 1,
        "masked": model.masked,
        "ownAccuracy": own_accuracy(model) or None,
        "scores": {axis: _score(score) for axis, score in model.scores.items()},
    }
    if model.results is None:
        return described
    summary, tolerance, training = model.summary, model.summary["tolerance"], model.training
    counted = tolerance["n"] - tolerance["n_failed"]  # images that the curve is over
    middle, radii = tolerance["median"], np.linspace(0, last_radius(model), POINTS)
    return described | {
        "reasons": [str(reason) for reason in (summary.get("health") or {}).get("reasons", [])],
        "counts": [tolerance[f"n_{status}"] for status in STATUSES],
        "median": [middle[key] for key in ("value", "low", "high", "n")],
        "survival": {"last": float(radii[-1]), "shares": survival_of(model, radii)[0].tolist()} if counted else None,
        "histogram": _histogram(model),
        "parameters": summary["model"]["parameters"],
        "input": summary["model"]["input_size"],
        "training": str(training.get("recipe", "")),
    }


def _score(score: Score) -> list[float]:
    """Return value, standard error, ends of the interval and number of images; only the value if no more is known."""
    errors = [float(f"{error:.4g}") for error in (score.se, score.low, score.high)]
    return [score.value, *errors, score.n] if score.n or not np.isnan(errors).all() else [score.value]


def _histogram(model: Model) -> dict[str, Any]:
    """Return the histogram of the radii of found images, and the number of censored ones."""
    assert model.results is not None
    columns = model.results.columns
    radii = columns[RADIUS][columns["status"] == Status.FOUND]
    counts, edges = np.histogram(radii, BINS, (0, float(radii.max()) if len(radii) and radii.max() > 0 else 1))
    return {
        "last": float(edges[-1]),
        "counts": counts.tolist(),
        "censored": int((columns["status"] == Status.CENSORED).sum()),
    }


def _example(example: Example, book: PictureBook) -> dict[str, Any]:
    """Return the data of an attacked example; its images are added to the book."""
    change, amount = book.add_change(example.change)
    return {
        "key": example.key,
        "image": book.add(example.image),
        "human": book.add(_clipped(example.human)),
        "change": change,
        "amount": amount,
        "map": book.add(_clipped(example.perturbation)),
        "radius": example.radius,
        "alignment": float(example.alignment),
        "label": example.label,
        "predicted": example.prediction,
        "category": example.category,
    }


def _clipped(heat: Pictures) -> Pictures:
    """Scale a map >= 0 so that its 99.5th percentile is 1; zero stays zero, which keeps ratios to the mean."""
    top = np.percentile(heat, 99.5) or heat.max() or 1.0
    return np.clip(heat / top, 0, 1)


def _palette() -> str:
    """Return the colours of maps as hexadecimal digits, six per colour."""
    return np.uint8(np.round(255 * matplotlib.colormaps[HEAT](np.arange(256))[:, :3])).tobytes().hex()


def _comparison(pair: Comparison, index: Mapping[int, int]) -> dict[str, Any]:
    """Return the data of a comparison, image by image."""
    scores = list(pair.differences)
    return {
        "a": index[id(pair.a)],
        "b": index[id(pair.b)],
        "keys": pair.keys.tolist(),
        "values": {score: pair.values[score].tolist() for score in scores},
        "changed": {score: pair.most_changed(score) for score in scores},
    }


def _plain(content: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Round numbers to six digits; NaN becomes None, an infinity a string."""
    if isinstance(content, float):
        return float(f"{content:.6g}") if isfinite(content) else None if isnan(content) else str(content)
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    return [_plain(value) for value in content] if isinstance(content, list | tuple) else content
