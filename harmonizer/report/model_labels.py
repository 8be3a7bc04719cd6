"""Labels of models in a scatter plot: their choice, text and position."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harmonizer.report.data import Model
from harmonizer.report.label_placement import Label, outstanding, pareto_front, place_labels
from harmonizer.report.style import INK, PlotOptions, lay_out

FEW = 12  # most measured models that are all labelled
MOST_LABELS = 18  # most labels of outlying models
Point = NDArray[np.float64]
Segment = tuple[tuple[float, float], tuple[float, float]]


def check_labels(models: Sequence[Model], wanted: Sequence[str]) -> None:
    """Check that the models to label exist.

    Raises:
        ValueError: A model does not exist; the message suggests others.
    """
    known = {name for model in models for name in (model.name, model.architecture)}
    if unknown := [name for name in wanted if name not in known]:
        close = get_close_matches(unknown[0], known, 3, 0.3) or sorted(known)[:3]
        raise ValueError(f"expected --label to name a model, got {unknown[0]!r}; try {', '.join(close)}")


def label_models(
    figure: Figure,
    axes: Axes,
    models: Sequence[Model],
    keys: tuple[str, str],
    arrows: Sequence[Segment],
    options: PlotOptions,
) -> None:
    """Label as many points as fit."""
    if not models:
        return
    lay_out(figure)
    scale, size = 72 / figure.dpi, options.font_size - 2.5

    def on_page(data: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(axes.transData.transform(data)) * scale

    values = np.array([[model.value(key) for key in keys] for model in models])
    points, names = on_page(values), _names(models, options.labels)
    order, must = _to_label(models, names, values, points, options.labels)
    sizes = [_text_size(axes, names[i], size, scale) for i in order]
    left, bottom, right, top = (float(edge) * scale for edge in axes.bbox.extents)
    bars = [end for model in models[:FEW] if model.results is not None for end in _error_bars(model, *keys)]
    lines = [on_page(np.array(ends)) for ends in [*arrows, *bars]]
    for label in place_labels(points, order, sizes, (left, bottom, right, top), lines=lines, must=must):
        i = label.index
        color = INK if models[i].results is not None else "#555555"
        draw_label(axes, names[i], label, points[i], values[i], fontsize=size, color=color, parse_math=False, zorder=6)


def draw_label(axes: Axes, text: str, label: Label, point: Point, value: Point, **style: Any) -> None:  # noqa: ANN401 - matplotlib's
    """Draw a placed label of a point, given its position (2,) on the page and its value (2,) on the axes."""
    line = {"arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}
    axes.annotate(
        text,
        tuple(value),
        (label.x - point[0], label.y - point[1]),
        textcoords="offset points",
        va="bottom",
        arrowprops=line if label.leader else None,
        **style,
    ).set_in_layout(False)


def _to_label(
    models: Sequence[Model],
    names: Sequence[str],
    values: NDArray[np.float64],
    points: NDArray[np.float64],
    wanted: Sequence[str],
) -> tuple[list[int], int]:
    """Return the points to label by importance, and the number that must be labelled.

    The order is: requested models, heads of arrows, extremes of both axes, the Pareto front, and outliers, one per
    architecture. If there are few measured models, all of them must be labelled.
    """
    asked = [i for i, model in enumerate(models) if model.name in wanted or model.architecture in wanted]
    measured = [i for i, model in enumerate(models) if model.results is not None]
    heads = [i for i, model in enumerate(models) if model.control]
    few = [*heads, *sorted(measured, key=lambda i: names[i])] if len(measured) <= FEW else []
    ends = [int(i) for axis in values.T for i in (axis.argmax(), axis.argmin())]
    first = {models[i].architecture.split(".")[0]: i for i in reversed(outstanding(points)) if names[i]}
    rest = [i for i in outstanding(points) if i in first.values()][:MOST_LABELS]
    order = [i for i in dict.fromkeys([*asked, *few, *heads, *ends, *pareto_front(values), *rest]) if names[i]]
    return order, sum(i in asked or i in few for i in order)


def _names(models: Sequence[Model], wanted: Sequence[str]) -> list[str]:
    """Return the text of each label; a pair has one, the architecture, at the head of its arrow."""
    paired = [model for model in models if model.control]
    controls = {(model.source, model.control) for model in paired}
    alike = Counter(model.architecture for model in paired)
    return [
        model.architecture
        if model.control and alike[model.architecture] == 1
        else ""
        if (model.source, model.name) in controls and model.name not in wanted
        else model.name
        for model in models
    ]


def _text_size(axes: Axes, text: str, size: float, scale: float) -> tuple[float, float]:
    """Return the size of a label in typographic points, at the resolution of the saved figure."""
    label = axes.text(0, 0, text, fontsize=size, parse_math=False)
    box = label.get_window_extent()
    label.remove()
    return box.width * scale, box.height * scale


def _error_bars(model: Model, x: str, y: str) -> list[Segment]:
    """Return the ends of a point's 95 % intervals."""
    across, up = model.scores[x], model.scores[y]
    ends = [((across.low, up.value), (across.high, up.value)), ((across.value, up.low), (across.value, up.high))]
    return [end for end in ends if np.isfinite(end).all()]
