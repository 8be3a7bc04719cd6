"""Scatter plots of two scores over models: families, uncertainty, control -> harmonized, and the rank correlation."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from harmonizer.report.data import AXES, Model, comparable, score_range
from harmonizer.report.label_placement import outstanding, place_labels
from harmonizer.report.style import AREA, COLORS, FAINT, INK, MARKERS, MEASURED_AREA, PUBLISHED_AREA, new_figure
from harmonizer.report.tables import estimate, own_accuracy
from harmonizer.results.families import FAMILIES
from harmonizer.statistics import FEWEST_RANKED

WIDTH, HEIGHT = 7.2, 5.0  # inches
LABEL_SIZE = 6.5  # points
MOST_LABELS = 18  # of published models; measured ones always have theirs
UNCOUNTED: dict[str, Any] = {"s": 14.0, "facecolor": "none", "edgecolor": "#9A9A9A", "linewidth": 0.7}
OWN_AREA = 9.0  # of the dot in a point whose accuracy is not the table's, in points^2
Segment = tuple[tuple[float, float], tuple[float, float]]


def scatter(
    models: Sequence[Model],
    x: str,
    y: str,
    *,
    correlations: Sequence[dict[str, Any]] = (),
    bars: str = "interval",
    log: bool = False,
    titles: dict[str, str] | None = None,
    note: str = "",
) -> Figure:
    """Draw one score against another, a point a model.

    Args:
        models: All that the report is about. Those that lack either score are left out; those that do not count (see
            :func:`harmonizer.report.data.comparable`) are grey.
        x: Key of ``AXES``.
        y: Key of ``AXES``.
        correlations: Objects of ``correlations`` to state above the plot.
        bars: "interval" (95 %) or "se".
        log: Use a logarithmic axis for the tolerance.
        titles: Of axes, in place of those of ``AXES``.
        note: Under the figure.

    Returns:
        The figure.
    """
    counting = set(map(id, comparable(models)))
    models = [model for model in models if np.isfinite(model.value(x)) and np.isfinite(model.value(y))]
    counted = [model for model in models if id(model) in counting]
    uncounted = [model for model in models if id(model) not in counting]
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    for key, axis, set_scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if log and key == "tolerance":
            set_scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axis.set_major_formatter(FormatStrFormatter("%g"))
            axis.set_minor_formatter(NullFormatter())
    titles = titles or {}
    axes.set_xlabel(titles.get(x, AXES[x].title))
    axes.set_ylabel(titles.get(y, AXES[y].title))
    axes.grid(color=FAINT, linewidth=0.5, alpha=0.7)
    axes.set_axisbelow(True)
    published = list(dict.fromkeys(model.source for model in models if model.results is None))
    _draw_uncounted(axes, uncounted, x, y)
    for source in [*published, None]:  # measured models on top
        for family in FAMILIES:
            group = [m for m in counted if m.family == family and (m.source if m.results is None else None) == source]
            if group:
                _draw(axes, group, x, y, bars, published)
    own = [model for model in models if model.own_accuracy and "accuracy" in (x, y)]
    axes.scatter([m.value(x) for m in own], [m.value(y) for m in own], s=OWN_AREA, color="white", zorder=5)
    arrows = _arrows(axes, models, x, y)
    axes.margins(0.06)
    if y in ("alignment", "feature_alignment") and axes.get_ylim()[0] < 0 < axes.get_ylim()[1]:
        axes.axhline(0, color="#999999", linewidth=0.8, zorder=0.5)
    _legend(figure, counted, published, bool(arrows), uncounted, own)
    lines = [correlation_text(item) for item in correlations]
    if len(correlations) > 1:
        lines = [f"{item['group']}: {line}" for item, line in zip(correlations, lines, strict=True)]
    axes.set_title("\n".join(lines), loc="left", fontsize=9 if len(lines) < 2 else 7.5).set_parse_math(False)
    if len(correlations) == 1 and correlations[0]["n"] < len(models):
        note = " ".join(filter(None, [note, "Correlation over the models that have all scores; others are grey."]))
    if note:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=7.5, color="#555555").set_parse_math(False)
    _label(figure, axes, models, x, y, arrows)
    return figure


def correlation_text(correlation: dict[str, Any]) -> str:
    """Say a rank correlation in one line, or why there is none.

    >>> correlation_text({"rho": 0.8245, "low": 0.786, "high": 0.855, "p": 6.5e-77, "n": 305})[11:]
    '= 0.825 [0.786, 0.855], p < 0.001, n = 305'
    """
    n = correlation["n"]
    if np.isnan(correlation["rho"]):
        reason = f"it takes {FEWEST_RANKED}" if n < FEWEST_RANKED else "a score is the same for all"
        return f"No rank correlation of {n} model{'' if n == 1 else 's'}: {reason}"
    p = f"p = {correlation['p']:.3f}" if correlation["p"] >= 0.001 else "p < 0.001"
    rho = estimate(correlation["rho"], correlation["low"], correlation["high"])
    return f"Spearman \N{GREEK SMALL LETTER RHO} = {rho}, {p}, n = {n}"


def _draw(axes: Axes, group: Sequence[Model], x: str, y: str, bars: str, published: Sequence[str]) -> None:
    """Draw the points of one family and source, with their error bars."""
    family, measured = group[0].family, group[0].results is not None
    color = COLORS[family]
    values = np.array([[model.value(axis) for model in group] for axis in (x, y)])
    for axis, line in ((0, axes.hlines), (1, axes.vlines)):
        ends = np.array([score_range(model.scores[(x, y)[axis]], bars) for model in group])
        width = 1.1 if measured else 0.5
        line(
            values[1 - axis],
            ends[:, 0],
            ends[:, 1],
            color=color,
            linewidth=width,
            alpha=0.9 if measured else 0.35,
            zorder=2,
        )
    area = AREA.get(family, MEASURED_AREA) if measured else PUBLISHED_AREA * (2.2 if family == "harmonized" else 1)
    hollow = not measured and published.index(group[0].source) % 2 == 1
    axes.scatter(
        values[0],
        values[1],
        s=area,
        marker=MARKERS[family],
        facecolor="white" if hollow else color,
        edgecolor=color if hollow else INK if measured else "white",
        linewidth=0.9 if hollow else 0.7 if measured else 0.3,
        alpha=1 if measured else 0.75,
        zorder=4 if measured else 3,
    )
    flagged = values[:, [model.masked for model in group]]
    ring = axes.scatter(flagged[0], flagged[1], s=area * 3.5, facecolor="none", edgecolor=INK, linewidth=1, zorder=4)
    ring.set_linestyle((0, (2, 1.5)))


def _draw_uncounted(axes: Axes, models: Sequence[Model], x: str, y: str) -> None:
    """Draw the points of models that lack a score: grey and hollow, under the others, without error bars."""
    for family in FAMILIES:
        values = np.array([(model.value(x), model.value(y)) for model in models if model.family == family])
        if len(values):
            axes.scatter(*values.T, marker=MARKERS[family], zorder=1.5, **UNCOUNTED)


def _arrows(axes: Axes, models: Sequence[Model], x: str, y: str) -> list[Segment]:
    """Draw an arrow from each control to the model harmonized from it; return their ends."""
    points = {(model.source, model.name): (model.value(x), model.value(y)) for model in models}
    ends = []
    for model in models:
        start = points.get((model.source, model.control or ""))
        if start is not None:
            end = (model.value(x), model.value(y))
            arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, shrinkA=5, shrinkB=6, zorder=3.5)
            arrow.set(color=COLORS["harmonized"], linewidth=1.3)
            axes.add_patch(arrow)
            ends.append((start, end))
    return ends


def _legend(
    figure: Figure,
    models: Sequence[Model],
    published: Sequence[str],
    arrows: bool,
    uncounted: Sequence[Model],
    own: Sequence[Model],
) -> None:
    """Name the families with their numbers of models that count, the sources and the other signs, beside the plot."""
    measured = any(model.results is not None for model in models)

    def key(marker: str, face: str, edge: str, size: float, label: str) -> Line2D:
        line = Line2D([], [], linestyle="none", marker=marker, markersize=size, label=label)
        line.set(markerfacecolor=face, markeredgecolor=edge, markeredgewidth=0.8)
        return line

    handles = []
    for family in FAMILIES:
        count = sum(model.family == family for model in models)
        if count:
            size = 11 if family == "harmonized" else 7
            handles.append(key(MARKERS[family], COLORS[family], COLORS[family], size, f"{family} ({count})"))
        elif any(model.family == family for model in uncounted):
            handles.append(key(MARKERS[family], "none", UNCOUNTED["edgecolor"], 5.5, f"{family} (0)"))
    if measured and published:
        handles.append(key("o", "#888888", INK, 7.5, "measured here"))
    for i, source in enumerate(published):
        if measured or len(published) > 1:
            handles.append(key("o", "white" if i % 2 else "#888888", "#888888" if i % 2 else "white", 5.5, source))
    if arrows:
        handles.append(
            Line2D([], [], color=COLORS["harmonized"], linewidth=1.3, marker=">", label="control \u2192 harmonized")
        )
    if uncounted:
        text = f"grey: lacks a score,\nnot in \N{GREEK SMALL LETTER RHO} ({len(uncounted)})"
        handles.append(key("o", "none", UNCOUNTED["edgecolor"], 5.5, text))
    for origin, count in Counter(map(own_accuracy, own)).items():
        handles.append(key("o", "white", "#888888", 4.5, f"white dot: accuracy\n{origin}, not the\ntable's ({count})"))
    if any(model.masked for model in models):
        handles.append(key("$\\bigcirc$", INK, "none", 11, "gradients look masked"))
    if handles:
        figure.legend(handles=handles, loc="outside right upper", fontsize=8, handletextpad=0.4, labelspacing=0.6)


def _label(figure: Figure, axes: Axes, models: Sequence[Model], x: str, y: str, arrows: Sequence[Segment]) -> None:
    """Write the names of models beside their points: the measured ones, and published ones that stand out."""
    if not models:
        return
    figure.draw_without_rendering()  # so that the axes have their final size
    scale = 72 / figure.dpi

    def on_page(data: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(axes.transData.transform(data)) * scale

    points = on_page(np.array([[model.value(x), model.value(y)] for model in models]))
    names = _names(models)
    first = sorted(
        (i for i, model in enumerate(models) if names[i] and model.results is not None), key=lambda i: names[i]
    )
    first = [i for i, model in enumerate(models) if model.control and i not in first] + first
    one_each = {models[i].architecture.split(".")[0]: i for i in reversed(outstanding(points)) if names[i]}
    rest = [i for i in outstanding(points) if i in one_each.values() and i not in first]
    order = [*first, *rest[:MOST_LABELS]]
    sizes = [_text_size(axes, names[i], scale) for i in order]
    box = axes.bbox
    bounds = (box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale)
    bars = [end for model in models if model.results is not None for end in _error_bars(model, x, y)]
    lines = [on_page(np.array(ends)) for ends in [*arrows, *bars]]
    for label in place_labels(points, order, sizes, bounds, lines=lines, must=len(first)):
        model, (left, lower) = models[label.index], points[label.index]
        line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            names[label.index],
            (model.value(x), model.value(y)),
            (label.x - left, label.y - lower),
            textcoords="offset points",
            fontsize=LABEL_SIZE,
            parse_math=False,
            color=INK if model.results is not None else "#555555",
            va="bottom",
            arrowprops=line if label.far else None,
            zorder=6,
        ).set_in_layout(False)


def _names(models: Sequence[Model]) -> list[str]:
    """Return what to write beside each point: for a pair the architecture, once, at the arrow's head."""
    paired = [model for model in models if model.control]
    controls = {(model.source, model.control) for model in paired}
    alike = Counter(model.architecture for model in paired)
    return [
        model.architecture
        if model.control and alike[model.architecture] == 1
        else ""
        if (model.source, model.name) in controls
        else model.name
        for model in models
    ]


def _text_size(axes: Axes, text: str, scale: float) -> tuple[float, float]:
    """Measure a label in typographic points."""
    label = axes.text(0, 0, text, fontsize=LABEL_SIZE, parse_math=False)
    box = label.get_window_extent()
    label.remove()
    return box.width * scale, LABEL_SIZE


def _error_bars(model: Model, x: str, y: str) -> list[Segment]:
    """Return the ends of a point's 95 % intervals."""
    across, up = model.scores[x], model.scores[y]
    ends = [((across.low, up.value), (across.high, up.value)), ((across.value, up.low), (across.value, up.high))]
    return [end for end in ends if np.isfinite(end).all()]
