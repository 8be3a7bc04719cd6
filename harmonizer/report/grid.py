"""The qualitative grid: images, human maps and each model's attack maps."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from harmonizer.report.data import Model
from harmonizer.report.examples import (
    HEAT,
    MOST_IMAGES,
    TIMES_MEAN,
    Example,
    Pictures,
    magnification_for,
    read_examples,
    relative,
    scaled,
    shared_keys,
)
from harmonizer.report.style import COLORS, DEFAULT_OPTIONS, INK, PlotOptions, new_figure, wrapped
from harmonizer.report.tables import RHO
from harmonizer.results.categories import ANIMATE, INANIMATE

SMALLEST, LARGEST, GAP = 0.7, 1.15, 0.06  # inches: smallest and largest side of an image, space between two images
NAMES = 1.05  # inches left of the images
SMALLER = 2.0  # points by which the font of the grid is smaller than that of other figures
BOXES = {ANIMATE: "#1F4FD8", INANIMATE: "#D0021B"}  # blue and red, as on the page; distinct to colour-blind readers
RENDERINGS: Mapping[str, Callable[[Pictures], Pictures]] = {"shared": relative, "own": scaled}


class Row(NamedTuple):
    """A row of the grid."""

    name: str  # text left of the images
    color: str  # colour of the name
    images: Sequence[Pictures]  # (H,W,3) or (H,W) in [0,1]
    texts: Sequence[str] = ()  # texts below the images, of equal numbers of lines


def qualitative_grid(
    models: Sequence[Model],
    *,
    options: PlotOptions = DEFAULT_OPTIONS,
    categories: Mapping[str, str] | None = None,
) -> Figure | None:
    """Draw images that all models were attacked on, one column per image.

    The rows are the image, the human map, and the attack map of each model in the same rendering, below the attacked
    image with its perturbation magnified if ``options.attacked``.

    Args:
        models: Models with examples.
        options: Options of the figure; ``images``, ``width``, ``font_size``, ``map_scale`` and ``attacked`` are used.
        categories: Categories of classes; None for the default ones.

    Returns:
        The figure, or None if the models share no example.

    Raises:
        ValueError: An image is not an example of all the models.
    """
    examples = [read_examples(model, categories=categories) for model in models]
    most = max(2, min(MOST_IMAGES, int((options.width - NAMES) / SMALLEST)))
    shown = shared_keys(examples, options.images, most)
    if not shown:
        return None
    factor = magnification_for([own[key] for own in examples for key in shown])
    columns, render = [examples[0][key] for key in shown], RENDERINGS[options.map_scale]
    rows: list[Row] = [
        Row("Image", INK, [example.image for example in columns]),
        Row("Human map", INK, [render(example.human) for example in columns]),
    ]
    for model, own in zip(models, examples, strict=True):
        attacks, color = [own[key] for key in shown], COLORS[model.family]
        if options.attacked:
            rows.append(Row("attacked", color, [example.attacked(factor) for example in attacks]))
        rows.append(Row(model.name, color, [render(e.perturbation) for e in attacks], list(map(_outcome, attacks))))
    cell = min(LARGEST, (options.width - NAMES) / len(shown) - GAP)
    line = 1.25 * (options.font_size - SMALLER) / 72
    heights = [cell + GAP + 1.1 * line * (2 if row.texts else 0) for row in rows]
    width, height = max(NAMES + len(shown) * (cell + GAP), 3.2), sum(heights) + 7 * line
    figure = new_figure(width, height)
    figure.set_layout_engine("none")  # every image has the same size
    top = height - 1.4 * line
    for row, tall in zip(rows, heights, strict=True):
        _draw(figure, row, (top - cell, cell), options.font_size - SMALLER, columns if row is rows[0] else ())
        top -= tall
    _legend(figure, columns, factor, options, line)
    return figure


def _draw(figure: Figure, row: Row, place: tuple[float, float], size: float, heads: Sequence[Example]) -> None:
    """Draw a row with its name on the left and ``heads`` above; ``place`` is its lower edge and its side, in inches."""
    bottom, cell = place
    width, height = figure.get_size_inches()
    for i, image in enumerate(row.images):
        left = NAMES + i * (cell + GAP)
        axes = figure.add_axes((left / width, bottom / height, cell / width, cell / height))
        axes.imshow(image, cmap=HEAT, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if row.texts:
            axes.set_xlabel(row.texts[i], fontsize=min(size, 6.2 * cell), labelpad=2, linespacing=1.1).set_parse_math(
                False
            )
        if heads:
            color = BOXES.get(heads[i].category, INK)
            title = axes.set_title(textwrap.shorten(heads[i].label, 18, placeholder="…"), fontsize=size, pad=3.5)
            title.set(color=color, parse_math=False)
            axes.spines[:].set(visible=bool(heads[i].category), color=color, linewidth=2)
    name = _broken(row.name, int(72 * NAMES / (0.58 * size)))
    at = ((NAMES - 0.06) / width, (bottom + cell / 2) / height)
    figure.text(*at, name, color=row.color, fontsize=size, ha="right", va="center").set_parse_math(False)


def _broken(name: str, most: int) -> str:
    r"""Break a name at its separators into lines of up to ``most`` letters.

    >>> _broken("test_resnet-control-seed-0", 12).split("\n")
    ['test_resnet-', 'control-', 'seed-0']
    """
    lines = [""]
    for part in re.findall(r"[^-_ ]+[-_ ]?|[-_ ]", name):
        if lines[-1] and len(lines[-1] + part) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _outcome(example: Example) -> str:
    """Return the predicted class, the radius and the alignment of an example."""
    taken = f"→ {textwrap.shorten(example.prediction, 18, placeholder='…')}" if example.prediction else ""
    rho = "" if np.isnan(example.alignment) else f", {RHO} {example.alignment:.2f}".replace("-", "\N{MINUS SIGN}")
    radius = f"{example.radius:.2f}" if example.radius >= 0.1 else f"{example.radius:.2g}"
    return f"{taken}\nL2 {radius}{rho}"


def _legend(figure: Figure, columns: Sequence[Example], factor: int, options: PlotOptions, line: float) -> None:
    """Draw the legend of colours, scale and boxes below the grid."""
    width, height = figure.get_size_inches()
    bar = figure.add_axes((NAMES / width, 4.4 * line / height, min(1.5, width - NAMES - 0.1) / width, 0.06 / height))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=HEAT, aspect="auto", extent=(0, 1, 0, 1))
    ends = ("0", f"≥ {TIMES_MEAN:g} times the map's mean")
    ends = ends if options.map_scale == "shared" else ("minimum", "99.5th percentile")
    size = options.font_size - SMALLER
    bar.set(yticks=[])
    bar.set_xticks([0, 1], labels=ends, fontsize=size)
    for label, side in zip(bar.get_xticklabels(), ("left", "right"), strict=True):
        label.set(ha=side)
    known = {example.category for example in columns} - {""}
    parts = [f"{'blue' if name == ANIMATE else 'red'} box: {name}" for name in (ANIMATE, INANIMATE) if name in known]
    if options.attacked:
        parts.append(f"perturbations magnified {factor}\N{MULTIPLICATION SIGN}")
    text = wrapped("; ".join(parts), width - NAMES, size)
    figure.text(NAMES / width, 2.6 * line / height, text, fontsize=size, color="#555555", va="top")
