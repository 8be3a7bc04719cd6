"""The content of the page without JavaScript: charts and tables, as values for its template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from harmonizer.report.data import AXES, Model, comparable
from harmonizer.report.finding import DEFINITIONS
from harmonizer.report.further import FURTHER, further_axes
from harmonizer.report.paired import Comparison
from harmonizer.report.sources import Source
from harmonizer.report.tables import NONE, estimate, median, own_accuracy, robust_of, show
from harmonizer.results.families import FAMILIES
from harmonizer.statistics import BOUND, NOISE_CEILING, STATUSES

WIDTH, HEIGHT = 760, 430  # size of a chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 10, 44  # margins, as in plot.js
MARKER = 4  # half width of a marker, as in the template
CHARTS = (("accuracy", "tolerance"), ("accuracy", "alignment"), ("tolerance", "alignment"))


@dataclass(frozen=True)
class Chart:
    """A scatter plot in its own units."""

    x: str  # title of the horizontal axis
    y: str  # title of the vertical axis
    across: list[tuple[float, str]]  # ticks of the horizontal axis: place and text
    up: list[tuple[float, str]]  # ticks of the vertical axis
    groups: list[tuple[int, str, list[tuple[float, float]]]]  # number of a family, style, places (see MARKER)


def charts(models: Sequence[Model], titles: Mapping[str, str]) -> list[Chart]:
    """Return the charts that the scores allow; the page first shows the first chart."""
    counted = set(map(id, comparable(models)))
    found = []
    for x, y in CHARTS:
        shown = [model for model in models if np.isfinite([model.value(x), model.value(y)]).all()]
        if not shown:
            continue
        to_x, across = _axis([model.value(x) for model in shown], LEFT, WIDTH - RIGHT)
        to_y, up = _axis([model.value(y) for model in shown], HEIGHT - BOTTOM, TOP)
        groups = []
        for style, members in (("uncounted", set(map(id, shown)) - counted), ("", counted)):
            for number, family in enumerate(FAMILIES):
                group = [model for model in shown if model.family == family and id(model) in members]
                places = [(round(to_x(m.value(x)) / MARKER, 1), round(to_y(m.value(y)) / MARKER, 1)) for m in group]
                groups += [(number, style, places)] if group else []
        found.append(Chart(titles.get(x, AXES[x].title), titles.get(y, AXES[y].title), across, up, groups))
    return found


def _axis(values: Sequence[float], start: float, end: float) -> tuple[Any, list[tuple[float, str]]]:
    """Return the function from values to positions between two ends, and the ticks."""
    low, high = min(values), max(values)
    pad = (high - low or 1) * 0.05
    low, high = low - pad, high + pad

    def place(value: float) -> float:
        return _round(start + (value - low) / (high - low) * (end - start))

    ticks = [float(tick) for tick in MaxNLocator(7).tick_values(low, high) if low <= tick <= high]
    return place, [(place(tick), f"{tick:g}".replace("-", "\N{MINUS SIGN}")) for tick in ticks]


def _round(value: float) -> float:
    """Round a position to a tenth of a unit."""
    return round(value, 1)


@dataclass(frozen=True)
class ModelTable:
    """The table of models."""

    columns: list[tuple[str, str, str]]  # name, title and class of each column
    order: list[int]  # numbers of the models, the most tolerant of each protocol first
    rows: list[list[str]]  # cells of the models, in that order
    note: str  # note for the reader


def model_table(models: Sequence[Model]) -> ModelTable:
    """Return the table of models."""
    usual = {key: axis for key, axis in AXES.items() if any(key in model.scores for model in models)}
    further = further_axes(models)
    robust = [{share["eps"]: share["value"] for share in robust_of(model) if share["n"]} for model in models]
    budgets = sorted({eps for shares in robust for eps in shares})
    measured = any(model.results for model in models)
    columns = [("rank", "#", ""), ("model", "Model", "text"), ("family", "Family", "text")]
    columns += [("protocol", "Protocol", "text"), *((key, axis.short, "") for key, axis in usual.items())]
    columns += [(key, axis.short, "further") for key, axis in further.items()]
    if measured:
        columns.append(("median", "Median (L2)", ""))
        columns += [(f"robust-{eps:g}", f"Correct at L2 \u2264 {eps:g} (%)", "extra") for eps in budgets]
        columns += [(status, status, "extra") for status in STATUSES]
    sources = list(dict.fromkeys(model.source for model in models))
    place = [(sources.index(model.source), -np.nan_to_num(model.value("tolerance"), nan=-np.inf)) for model in models]
    order, rows = sorted(range(len(models)), key=lambda i: place[i]), []
    values = {source: np.array([m.value("tolerance") for m in models if m.source == source]) for source in sources}
    for model, shares in ((models[i], robust[i]) for i in order):
        value = model.value("tolerance")
        rank = 1 + np.count_nonzero(values[model.source] > value)
        cells = [NONE if np.isnan(value) else str(rank), model.name, model.family, model.source]
        for key, axis in usual.items():
            mark = f" ({own_accuracy(model)})" if key == "accuracy" and model.own_accuracy else ""
            cells.append(show(model.scores.get(key), axis.digits) + mark)
        cells += [show(model.scores.get(key), axis.digits) for key, axis in further.items()]
        if measured:
            counts = model.summary.get("tolerance", {})
            cells += [median(model), *(f"{100 * shares[eps]:.1f}" if eps in shares else NONE for eps in budgets)]
            cells += [str(counts.get(f"n_{status}", NONE)) for status in STATUSES]
        rows.append(cells)
    text = "Scores \N{PLUS-MINUS SIGN} standard error; alignments are shares of the correlation between people."
    return ModelTable(columns, order, rows, text + (f" Correct at a budget: {BOUND}." if budgets else ""))


def correlation_rows(correlations: Sequence[Mapping[str, Any]], sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return the rows of the page's table of rank correlations."""
    rows = []
    for item in correlations:
        several = len(sources) > 1 and "source" in item
        rho, low, high = item["rho"], item["low"], item["high"]
        bar = [] if np.isnan(rho) else [_round(80 + 76 * v) for v in ([low, rho, high] if low == low else [rho] * 3)]
        rows.append(
            {
                "scores": f"{item['x']} {NONE} {item['y']}",
                "group": f"{item['source']}, {item['group']}" if several else item["group"],
                "rho": estimate(rho, np.nan, np.nan),
                "interval": NONE if np.isnan(low) else estimate(rho, low, high).partition(" ")[2],
                "bar": bar,
                "p": NONE if np.isnan(item["p"]) else "< 0.001" if item["p"] < 0.001 else f"{item['p']:.3f}",
                "n": str(item["n"]),
            }
        )
    return rows


def pair_rows(pair: Comparison) -> list[list[str]]:
    """Return a pair's differences: score, mean with standard error, interval, p, images."""
    rows = []
    for score, d in pair.differences.items():
        mean = f"{d['mean']:+.3f} \N{PLUS-MINUS SIGN} {d['se']:.3f}".replace("-", "\N{MINUS SIGN}")
        interval = estimate(d["mean"], d["low"], d["high"], sign="+").partition(" ")[2] or NONE
        p = NONE if np.isnan(d["p"]) else "< 0.001" if d["p"] < 0.001 else f"{d['p']:.3f}"
        rows.append([AXES[score].short, mean, interval, p, str(d["n"])])
    return rows


def definitions(models: Sequence[Model]) -> list[tuple[str, str]]:
    """Return the name and meaning of each usual score that any model has."""
    return [DEFINITIONS[key] for key in AXES if any(key in model.scores for model in models)]


def further_definitions(models: Sequence[Model]) -> list[tuple[str, str]]:
    """Return the name and meaning of each further score that any model has."""
    return [(axis.short, FURTHER[key][1]) for key, axis in further_axes(models).items()]


def facts(models: Sequence[Model], sources: Sequence[Source]) -> list[tuple[str, str]]:
    """Return protocols, data and software, without dates and durations, so that equal results give equal pages."""
    protocols = [(s.name, f"{s.protocol}.{' ' + s.citation + '.' if s.citation else ''}") for s in sources]
    summaries = [model.summary for model in models if model.results is not None]
    if not summaries:
        return protocols
    data = set()
    for own in (summary["data"] for summary in summaries):
        name = PurePath(own["name"]).name  # a folder without its path
        data.add(f"{name}: {own['samples']} samples, manifest {own['manifest_sha256'][:12]}")
    software = {", ".join(f"{name} {version}" for name, version in sorted(s["software"].items())) for s in summaries}
    images = sum(s["tolerance"]["n"] for s in summaries)
    passes = [sum(float(s["cost"][kind]) for s in summaries) for kind in ("forwards", "backwards")]
    cost = f"{passes[0] / max(images, 1):.0f} forward and {passes[1] / max(images, 1):.0f} backward passes per image"
    return [
        *protocols,
        ("Correlation between people", _ceilings(summaries)),
        ("Data", "; ".join(sorted(data))),
        ("Software", "; ".join(sorted(software))),
        ("Devices", ", ".join(sorted({str(s["device"]) for s in summaries}))),
        ("Cost", cost),
    ]


def _ceilings(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return the origin of the noise ceilings of these summaries."""
    blocks = [s[name] for s in summaries for name in ("adversarial_alignment", "feature_alignment") if s.get(name)]
    blocks += [block for s in summaries for block in (s.get("scores") or {}).values()]
    sources = {str(block.get("ceiling_source", f"published, {NOISE_CEILING}")) for block in blocks}
    return "; ".join(sorted(sources)) or f"{NOISE_CEILING}"
