"""The figure of ``benchmarks.front``: tolerance and alignment against accuracy, one mark per recipe."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from harmonizer.report.label_placement import place_labels
from harmonizer.report.model_labels import draw_label
from harmonizer.report.style import FAINT, INK, new_figure, styled

Seeds = Sequence[Sequence[float]]
"""One row per seed: accuracy and the scores of AXES."""

AXES = (
    "Tolerance, mean (L2, pixels in [0,1])",
    "Tolerance, median (L2, pixels in [0,1])",
    "Adversarial alignment (Spearman)",
    "Feature alignment (Spearman)",
)
# Colour and marker of a recipe, by the first of these words in its name: the use of its maps, and its attack.
COLORS = {"fel2022": "#56B4E9", "modern": "#009E73", "joint": "#009E73", "": "#595959"}
MARKERS = {"pgd": "D", "fast": "^", "joint": "^", "trades": "s", "": "o"}
OTHER = "#CC79A7"  # other recipes
PLAIN = ("control", "late", "pgd", "fast", "trades")  # prefixes of the names of recipes without maps
SIZE = 6.5  # points


def draw(recipes: Mapping[str, Seeds]) -> Figure:
    """Draw one mark per recipe, the mean over seeds, with thin bars from the lowest seed to the highest."""
    with styled():
        figure = new_figure(11.0, 9.0, pad=0.12)
        panels = figure.subplots(2, 2)
        for column, (axes, title) in enumerate(zip(panels.flat, AXES, strict=True), start=1):
            for name, seeds in recipes.items():
                x, y = (np.array([seed[i] for seed in seeds]) for i in (0, column))
                bars = {f"{a}err": [[v.mean() - v.min()], [v.max() - v.mean()]] for a, v in (("x", x), ("y", y))}
                style = {"fmt": marker(name), "color": color(name), "elinewidth": 0.7, "markersize": 5}
                axes.errorbar(x.mean(), y.mean(), **bars, **style)
            axes.set(xlabel="Accuracy (%)", ylabel=title)
            axes.grid(color=FAINT, linewidth=0.5)
            axes.margins(0.12)
        figure.legend(handles=_legend(recipes), loc="outside lower center", ncols=8)
        figure.draw_without_rendering()  # so that the axes have their final size
        for column, axes in enumerate(panels.flat, start=1):
            _name(axes, list(recipes), [np.array(seeds)[:, [0, column]] for seeds in recipes.values()])
    return figure


def color(name: str) -> str:
    """Return the colour of a recipe, by the use of human maps in its training.

    >>> color("modern-pgd-0.5") == COLORS["modern"], color("pgd-0.5") == COLORS[""], color("rrr") == OTHER
    (True, True, True)
    """
    known = next(part for part in COLORS if part in name)
    return COLORS[known] if known or name.startswith(PLAIN) else OTHER


def marker(name: str) -> str:
    """Return the marker of a recipe, by its adversarial training."""
    return MARKERS[next(part for part in MARKERS if part in name)]


def _legend(recipes: Mapping[str, Seeds]) -> list[Line2D]:
    """Draw the legend of the colours and markers in use."""
    labels = {value: part for part, value in reversed(COLORS.items())} | {COLORS[""]: "no human maps"}
    labels[OTHER] = "other supervision"
    shapes = {value: part or "no attack" for part, value in reversed(MARKERS.items())}
    colors, markers = {color(name) for name in recipes}, {marker(name) for name in recipes}
    handles = [
        Line2D([], [], marker="o", linestyle="", color=value, label=label)
        for value, label in labels.items()
        if value in colors
    ]
    return handles + [
        Line2D([], [], marker=value, linestyle="", color=INK, fillstyle="none", label=label)
        for value, label in shapes.items()
        if value in markers
    ]


def _name(axes: Axes, names: Sequence[str], seeds: Sequence[NDArray[np.float64]]) -> None:
    """Write the recipes' names next to their marks, the means over seeds (S,2), without overlaps."""
    scale = 72 / axes.figure.dpi

    def on_page(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(axes.transData.transform(values)) * scale

    values = np.array([one.mean(0) for one in seeds])
    ends = [(one.mean(0), one.min(0), one.max(0)) for one in seeds if len(one) > 1]
    bars = [[(low[0], y), (high[0], y)] for (_, y), low, high in ends]
    bars += [[(x, low[1]), (x, high[1])] for (x, _), low, high in ends]
    lines = [on_page(np.array(bar)) for bar in bars]
    points = on_page(values)
    left, bottom, right, top = (float(edge) * scale for edge in axes.bbox.extents)
    sizes = [(0.56 * SIZE * len(name), 1.2 * SIZE) for name in names]  # the width of a letter is about 0.56 of its size
    bounds = (left, bottom, right, top)
    for label in place_labels(points, range(len(names)), sizes, bounds, lines=lines, must=len(names)):
        i = label.index
        draw_label(axes, names[i], label, points[i], values[i], fontsize=SIZE)
