"""Survival curves: the share of images that a model still classifies correctly at each radius."""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harmonizer.report.data import Model
from harmonizer.report.style import COLORS, DEFAULT_OPTIONS, FAINT, NARROW, PlotOptions, new_figure
from harmonizer.results import RADIUS
from harmonizer.statistics import Status, proportion, survival

ASPECT = 0.56  # height over width
MOST_NAMES = 14  # most curves with names and bands; more curves are only coloured by family
POINTS = 201  # points of a curve
DASHES = ("-", "--", ":", "-.")  # line styles of the models of a family


def survival_curves(models: Sequence[Model], options: PlotOptions = DEFAULT_OPTIONS) -> Figure:
    """Draw the share of images that measured models classify correctly against the radius, with 95 % intervals."""
    models = [model for model in models if model.results is not None]
    below = options.width < NARROW
    figure = new_figure(options.width, options.width * (1.0 if below else ASPECT))
    axes = figure.add_subplot()
    named = len(models) <= MOST_NAMES
    radii = np.linspace(0, max(map(last_radius, models), default=1.0), POINTS)
    for family, color in COLORS.items():
        group = [model for model in models if model.family == family]
        curves = [survival_of(model, radii) for model in group]
        if group and not named:
            lines = [np.column_stack([radii, 100 * share]) for share, _ in curves]
            axes.add_collection(LineCollection(lines, color=color, linewidth=0.8, alpha=0.5, label=family))
            continue
        for turn, (model, (share, n)) in enumerate(zip(group, curves, strict=True)):
            style = DASHES[turn % len(DASHES)]
            (line,) = axes.plot(radii, 100 * share, color=color, linestyle=style, linewidth=1.6, alpha=0.95)
            line.set_label(model.name)
            bands = [proportion(round(value * n) if n else 0, n) for value in share]
            low, high = ([100 * band[end] for band in bands] for end in ("low", "high"))
            axes.fill_between(radii, low, high, color=color, alpha=0.08, linewidth=0)
    axes.set_xlabel("Perturbation radius (L2)")
    axes.set_ylabel("Images still correct (%)")
    axes.set_xlim(radii[0], radii[-1])
    axes.set_ylim(0, 100)
    axes.grid(color=FAINT, linewidth=0.5, alpha=0.7)
    legend = figure.legend(loc="outside lower left" if below else "outside right upper", fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def survival_of(model: Model, radii: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return the share of a measured model's images still correct at each radius, and the number of images."""
    columns = model.columns
    curve = survival(columns["status"], columns[RADIUS], radii)
    return np.array(curve["share"]), curve["n"]


def last_radius(model: Model) -> float:
    """Return the radius where a measured model's curve ends: 5 % above the largest found, or the largest searched."""
    columns = model.columns
    found = columns[RADIUS][columns["status"] == Status.FOUND]
    searched = float(model.summary["protocol"]["eps_max"])
    return min(float(1.05 * found.max()), searched) if len(found) and found.max() > 0 else searched
