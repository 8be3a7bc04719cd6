"""What the page's script is given, as plain JSON values."""

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from harmonizer.report.data import AXES, RMS, Model, Source, comparable, input_sizes
from harmonizer.report.examples import Example, magnification_for, read_examples, shared_keys
from harmonizer.report.page.pictures import PictureBook
from harmonizer.report.paired import TEST, Comparison
from harmonizer.report.survival import last_radius, survival_of
from harmonizer.report.tables import own_accuracy, robust_of
from harmonizer.results import RADIUS
from harmonizer.results.families import FAMILIES
from harmonizer.statistics import BOUND, FEWEST_RANKED, NOISE_CEILING, STATUSES, Status

BINS, POINTS = 24, 61  # of the histogram of radii; of the survival curve
MOST_PICTURED = 600  # examples in the page: about 15 kB each
CITATION = """\
@inproceedings{fel2022harmonizing,
  title = {Harmonizing the object recognition strategies of deep neural networks with humans},
  author = {Fel, Thomas and Felipe, Ivan and Linsley, Drew and Serre, Thomas},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022}, eprint = {2211.04533}, archiveprefix = {arXiv}
}
@misc{linsley2023adversarial,
  title = {Adversarial alignment: breaking the trade-off between the strength of an attack and its relevance to human
           perception},
  author = {Linsley, Drew and Feng, Pinyuan and Boissin, Thibaut and Ashok, Alekh Karkada and Fel, Thomas and
            Olaiya, Stephanie and Serre, Thomas},
  year = {2023}, eprint = {2306.03229}, archiveprefix = {arXiv}
}
"""


def payload(
    models: Sequence[Model],
    sources: Sequence[Source],
    correlations: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    *,
    notes: Sequence[str],
    titles: Mapping[str, str],
    grid: tuple[Sequence[Model], Sequence[str]],
) -> dict[str, Any]:
    """Collect everything that the page shows."""
    book, index = PictureBook(), {id(model): i for i, model in enumerate(models)}
    each = max(1, min(4, MOST_PICTURED // max(1, sum(model.results is not None for model in models))))
    examples = [list(read_examples(model, each).values()) for model in models]
    shown = [read_examples(model) for model in grid[0]]
    factor = magnification_for([e for own in [*examples, *(list(own.values()) for own in shown)] for e in own])
    controls = {(model.source, model.name): i for i, model in enumerate(models)}
    described, counted = [], set(map(id, comparable(models)))
    for model, own in zip(models, examples, strict=True):
        control = controls.get((model.source, model.control or ""))
        pictured = [_pictured(example, factor, book) for example in own]
        more = {"control": control, "counted": id(model) in counted, "examples": pictured}
        described.append(_model(model, sources) | more)
    shown_axes = AXES | (RMS if len(input_sizes(models)) > 1 else {})
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
            "test": TEST,
            "bound": BOUND,
            "fewest": FEWEST_RANKED,
            "grid": _grid(grid[0], shown, grid[1], factor, book),
            "magnification": factor,
            "pictures": book.pages,
            "notes": list(notes),
            "facts": _facts(models, sources),
            "citation": CITATION + "".join(f"% {s.name}: {s.citation}\n" for s in sources if s.citation),
        }
    )
    return content


def _model(model: Model, sources: Sequence[Source]) -> dict[str, Any]:
    """Describe one model; what only measured models have is null for others."""
    published = [source.name for source in sources if source.citation]
    described = {
        "name": model.name,
        "architecture": model.architecture,
        "family": model.family,
        "source": model.source,
        "measured": model.results is not None,
        "hollow": model.results is None and published.index(model.source) % 2 == 1,
        "masked": model.masked,
        "ownAccuracy": own_accuracy(model),
        "scores": {axis: [s.value, s.se, s.low, s.high, s.n] for axis, s in model.scores.items()},
        **dict.fromkeys(
            ("reasons", "counts", "median", "robust", "survival", "histogram", "parameters", "input", "training")
        ),
    }
    if model.results is None:
        return described
    summary = model.results.summary
    tolerance, training = summary["tolerance"], summary.get("training")
    counted = tolerance["n"] - tolerance["n_failed"]  # images that the curve is over
    middle, radii = tolerance["median"], np.linspace(0, last_radius(model), POINTS)
    return described | {
        "reasons": [str(reason) for reason in (summary.get("health") or {}).get("reasons", [])],
        "counts": [tolerance[f"n_{status}"] for status in STATUSES],
        "median": [middle[key] for key in ("value", "low", "high", "n")],
        "robust": [[s[key] for key in ("eps", "value", "low", "high")] for s in robust_of(model) if s["n"]],
        "survival": [radii.tolist(), survival_of(model, radii)[0].tolist()] if counted else None,
        "histogram": _histogram(model),
        "parameters": summary["model"]["parameters"],
        "input": summary["model"]["input_size"],
        "training": "" if training is None else " ".join(str(training[k]) for k in ("recipe",) if k in training),
    }


def _histogram(model: Model) -> dict[str, Any]:
    """Count the found images by radius, and the censored ones."""
    assert model.results is not None
    columns = model.results.columns
    radii = columns[RADIUS][columns["status"] == Status.FOUND]
    counts, edges = np.histogram(radii, BINS, (0, float(radii.max()) if len(radii) and radii.max() > 0 else 1))
    return {
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "censored": int((columns["status"] == Status.CENSORED).sum()),
    }


def _pictured(example: Example, factor: float, book: PictureBook) -> dict[str, Any]:
    """Put an example's four pictures into the book."""
    pictures = (example.image, example.overlaid(), example.attacked(factor), example.attack_map)
    return {"key": example.key, "radius": example.radius, "pictures": [book.add(picture) for picture in pictures]}


def _grid(
    models: Sequence[Model],
    examples: Sequence[Mapping[str, Example]],
    keys: Sequence[str],
    factor: float,
    book: PictureBook,
) -> dict[str, Any] | None:
    """Lay out the grid of examples: a row of images, one of where people look, two a model."""
    keys = shared_keys(examples, keys)
    if not keys:
        return None
    first = [examples[0][key] for key in keys]
    rows: list[dict[str, Any]] = [
        {"label": "Image", "pictures": [book.add(example.image) for example in first]},
        {"label": "People", "pictures": [book.add(example.overlaid()) for example in first]},
    ]
    for model, own in zip(models, examples, strict=True):
        attacked = [book.add(own[key].attacked(factor)) for key in keys]
        radii = [own[key].radius for key in keys]
        rows.append({"label": model.name, "family": model.family, "pictures": attacked, "radii": radii})
        maps = [book.add(own[key].attack_map) for key in keys]
        rows.append({"label": "its attack map", "family": model.family, "pictures": maps})
    return {"keys": keys, "rows": rows}


def _comparison(pair: Comparison, index: Mapping[int, int]) -> dict[str, Any]:
    """Describe a comparison, image by image."""
    scores = list(pair.differences)
    return {
        "a": index[id(pair.a)],
        "b": index[id(pair.b)],
        "keys": pair.keys.tolist(),
        "differences": pair.differences,
        "values": {score: pair.values[score].tolist() for score in scores},
        "changed": {score: pair.most_changed(score) for score in scores},
    }


def _facts(models: Sequence[Model], sources: Sequence[Source]) -> list[tuple[str, str]]:
    """State protocols, data and software; no dates and no durations, so that equal results give equal pages."""
    facts = [(f"Source {s.name}", f"{s.protocol}{'. ' + s.citation if s.citation else ''}") for s in sources]
    summaries = [model.results.summary for model in models if model.results is not None]
    if not summaries:
        return facts
    data = set()
    for own in (summary["data"] for summary in summaries):
        name = PurePath(own["name"]).name  # of a folder, not where it is
        data.add(f"{name}: {own['samples']} samples, manifest {own['manifest_sha256'][:12]}")
    software = {", ".join(f"{name} {version}" for name, version in sorted(s["software"].items())) for s in summaries}
    images = sum(s["tolerance"]["n"] for s in summaries)
    passes = [sum(float(s["cost"][kind]) for s in summaries) for kind in ("forwards", "backwards")]
    cost = f"{passes[0] / max(images, 1):.0f} forward and {passes[1] / max(images, 1):.0f} backward passes an image"
    scores = (
        "Tolerance is the restricted mean of the smallest L2 radius that fools the model, in [0,1] pixel units, over "
        "images classified correctly before the attack; an image never fooled counts at the largest radius searched. "
        "Alignment is the Spearman correlation of the attack's map with where people look, divided by people's "
        f"agreement among themselves: {_ceilings(summaries)}."
    )
    return [
        *facts,
        ("Scores", scores),
        ("Data", "; ".join(sorted(data))),
        ("Software", "; ".join(sorted(software))),
        ("Devices", ", ".join(sorted({str(s["device"]) for s in summaries}))),
        ("Cost", cost),
    ]


def _ceilings(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Say which ceilings the alignments of these summaries are shares of."""
    blocks = [s[name] for s in summaries for name in ("adversarial_alignment", "feature_alignment") if s.get(name)]
    sources = {str(block.get("ceiling_source", f"published, {NOISE_CEILING}")) for block in blocks}
    return "; ".join(sorted(sources)) or f"{NOISE_CEILING}"


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Round floats to what a page can show; null for NaN, "inf" for an infinity."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else str(value) if math.isinf(value) else float(f"{value:.6g}")
    return value
