"""Scatter plots of two scores over models, with families, error bars, arrows from controls, and rank correlations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from harmonizer.report.data import AXES, Model, comparable, score_range
from harmonizer.report.model_labels import Segment, label_models
from harmonizer.report.style import (
    AREA,
    COLORS,
    DEFAULT_OPTIONS,
    FAINT,
    INK,
    MARKERS,
    MEASURED_AREA,
    NARROW,
    PUBLISHED_AREA,
    PlotOptions,
    new_figure,
    wrapped,
)
from harmonizer.report.tables import RHO, correlation_text, own_accuracy
from harmonizer.results.families import FAMILIES

ASPECT = 0.7  # height of a figure over its width
CROWD = 40  # most models with full-size markers
UNCOUNTED: dict[str, Any] = {"s": 14.0, "facecolor": "none", "edgecolor": "#9A9A9A", "linewidth": 0.7}
OWN_AREA = 9.0  # points^2: dot in the marker of a model with its own accuracy


def scatter(
    models: Sequence[Model],
    x: str,
    y: str,
    *,
    correlations: Sequence[Mapping[str, Any]] = (),
    options: PlotOptions = DEFAULT_OPTIONS,
    titles: Mapping[str, str] | None = None,
    note: str = "",
) -> Figure:
    """Draw one score against another, one point per model.

    Args:
        models: All models of the report. Those without either score are skipped; those not in the correlations (see
            :func:`harmonizer.report.data.comparable`) are grey.
        x: Key of ``AXES``.
        y: Key of ``AXES``.
        correlations: Correlations to state above the plot.
        options: Options of the figure.
        titles: Titles of axes, in place of those of ``AXES``.
        note: Text below the figure.

    Returns:
        The figure.
    """
    counting = set(map(id, comparable(models)))
    models = [model for model in models if np.isfinite(model.value(x)) and np.isfinite(model.value(y))]
    counted = [model for model in models if id(model) in counting]
    uncounted = [model for model in models if id(model) not in counting]
    figure = new_figure(options.width, options.width * (ASPECT if options.width > NARROW else 1.15))
    axes = figure.add_subplot()
    _prepare(axes, x, y, options, titles or {})
    published = list(dict.fromkeys(model.source for model in models if model.results is None))
    own_number = max(sum(model.results is not None for model in counted), 1)
    narrow = min(1.0, options.width / DEFAULT_OPTIONS.width)
    shrink = narrow * min(1.0, (CROWD / own_number) ** 0.5)
    for family in FAMILIES:  # grey models below the others
        values = np.array([(model.value(x), model.value(y)) for model in uncounted if model.family == family])
        if len(values):
            axes.scatter(*values.T, marker=MARKERS[family], zorder=1.5, **UNCOUNTED)
    for source in [*published, None]:  # measured models on top
        for family in FAMILIES:
            group = [m for m in counted if m.family == family and (m.source if m.results is None else None) == source]
            if group:
                _draw(axes, group, (x, y), options.bars, published, narrow if source else shrink)
    own = [model for model in models if model.own_accuracy and "accuracy" in (x, y)]
    axes.scatter([m.value(x) for m in own], [m.value(y) for m in own], s=OWN_AREA * shrink, color="white", zorder=5)
    arrows = _arrows(axes, models, x, y, shrink)
    axes.margins(0.06)
    if y in ("alignment", "feature_alignment") and axes.get_ylim()[0] < 0 < axes.get_ylim()[1]:
        axes.axhline(0, color="#999999", linewidth=0.8, zorder=0.5)
    if options.headline:
        _headline(axes, correlations, options)
    if len(correlations) == 1 and correlations[0]["n"] < len(models):
        note = " ".join(filter(None, [note, "Correlation over the models with all scores; others are grey."]))
    size = options.font_size - 1.5
    note, below = wrapped(note, options.width, size), options.width < NARROW
    _legend(figure, counted, published, bool(arrows), uncounted, own, note if below else "")
    if note and not below:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=size, color="#555555").set_parse_math(False)
    label_models(figure, axes, models, (x, y), arrows, options)
    return figure


def _prepare(axes: Axes, x: str, y: str, options: PlotOptions, titles: Mapping[str, str]) -> None:
    """Set the scales, titles and grid of the axes."""
    for key, axis, set_scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if options.log and key == "tolerance":
            set_scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axis.set_major_formatter(FormatStrFormatter("%g"))
            axis.set_minor_formatter(NullFormatter())
        title = titles.get(key, AXES[key].title)
        axis.set_label_text(title.replace(" (", "\n(") if options.width < NARROW else title)
    axes.grid(color=FAINT, linewidth=0.5, alpha=0.7)
    axes.set_axisbelow(True)


def _headline(axes: Axes, correlations: Sequence[Mapping[str, Any]], options: PlotOptions) -> None:
    """State the correlations above the plot; several are prefixed with their source."""
    lines = [correlation_text(item) for item in correlations]
    if len(correlations) > 1:
        lines = [f"{item['source']}: {line}" for item, line in zip(correlations, lines, strict=True)]
    size, text = options.font_size - (0 if len(lines) < 2 else 1.5), "\n".join(lines)
    if options.width < NARROW:
        size, text = options.font_size - 1.5, text.replace("], p", "],\np")
    axes.set_title(text, loc="left", fontsize=size).set_parse_math(False)


def _draw(
    axes: Axes, group: Sequence[Model], keys: tuple[str, str], bars: str, published: Sequence[str], shrink: float
) -> None:
    """Draw the points of one family and source, with their error bars."""
    family, measured = group[0].family, group[0].results is not None
    color, bold = COLORS[family], measured and shrink > 0.7
    values = np.array([[model.value(axis) for model in group] for axis in keys])
    for axis, line in ((0, axes.hlines), (1, axes.vlines)):
        ends = np.array([score_range(model.scores[keys[axis]], bars) for model in group])
        style: dict[str, Any] = {"linewidth": 1.1 if bold else 0.5, "alpha": 0.9 if bold else 0.35, "zorder": 2}
        line(values[1 - axis], ends[:, 0], ends[:, 1], color=color, **style)
    area = AREA.get(family, MEASURED_AREA) if measured else PUBLISHED_AREA * (2.2 if family == "harmonized" else 1)
    area *= shrink
    hollow = not measured and published.index(group[0].source) % 2 == 1
    axes.scatter(
        values[0],
        values[1],
        s=area,
        marker=MARKERS[family],
        facecolor="white" if hollow else color,
        edgecolor=color if hollow else INK if bold else "white",
        linewidth=0.9 if hollow else 0.7 if bold else 0.3,
        alpha=1 if bold else 0.75,
        zorder=4 if measured else 3,
    )
    flagged = values[:, [model.masked for model in group]]
    ring = axes.scatter(flagged[0], flagged[1], s=area * 3.5, facecolor="none", edgecolor=INK, linewidth=1, zorder=4)
    ring.set_linestyle((0, (2, 1.5)))


def _arrows(axes: Axes, models: Sequence[Model], x: str, y: str, shrink: float) -> list[Segment]:
    """Draw an arrow from each control to its harmonized model; return the ends of the arrows."""
    points = {(model.source, model.name): (model.value(x), model.value(y)) for model in models}
    ends = []
    for model in models:
        start = points.get((model.source, model.control or ""))
        if start is not None:
            end = (model.value(x), model.value(y))
            arrow = FancyArrowPatch(start, end, arrowstyle="-|>", shrinkA=4, shrinkB=5, zorder=3.5)
            arrow.set(color=COLORS["harmonized"], linewidth=0.4 + 0.9 * shrink, mutation_scale=4 + 7 * shrink)
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
    title: str,
) -> None:
    """Draw the legend: families with their numbers of models in the correlations, sources and other markers.

    In a narrow figure, it is below the plot and has a title.
    """
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
        line = Line2D([], [], color=COLORS["harmonized"], linewidth=1.3, marker=">", label="control \u2192 harmonized")
        handles.append(line)
    if uncounted:
        text = f"grey: score missing,\nnot in {RHO} ({len(uncounted)})"
        handles.append(key("o", "none", UNCOUNTED["edgecolor"], 5.5, text))
    for origin, count in Counter(map(own_accuracy, own)).items():
        handles.append(key("o", "white", "#888888", 4.5, f"white dot: accuracy\n{origin}, not the\ntable's ({count})"))
    if any(model.masked for model in models):
        handles.append(key("$\\bigcirc$", INK, "none", 11, "gradients look masked"))
    if handles:
        below = figure.get_figwidth() < NARROW
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": 2} if below else {"loc": "outside right upper"}
        place |= {"title": title, "title_fontsize": "small", "alignment": "left"} if title else {}
        figure.legend(handles=handles, fontsize="small", handletextpad=0.4, labelspacing=0.6, **place)
