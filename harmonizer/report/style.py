"""Style of the figures: colours distinct to colour-blind readers, one marker per family, files without dates."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style as mpl_style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from harmonizer.files import replacing

# Okabe and Ito 2008. The web page uses the same; keep them in step with page/style.css.
COLORS = {
    "CNN": "#0072B2",
    "transformer": "#E69F00",
    "hybrid": "#CC79A7",
    "adversarially robust": "#D55E00",
    "control": "#595959",
    "harmonized": "#009E73",
    "other supervision": "#7A4B1E",
    "other": "#56B4E9",
}
MARKERS = {
    "CNN": "o",
    "transformer": "s",
    "hybrid": "^",
    "adversarially robust": "D",
    "control": "p",
    "harmonized": "*",
    "other supervision": "v",
    "other": "X",
}
AREA = {"harmonized": 190.0, "control": 75.0}  # points^2: marker of a measured model; others have MEASURED_AREA
MEASURED_AREA, PUBLISHED_AREA = 52.0, 20.0
INK, FAINT, WARNING = "#222222", "#D9D9D9", "#B00020"
DPI = 200
NARROW = 5.0  # inches: narrower figures have the legend below the plot
FORMATS = ("png", "pdf", "svg")
SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # part of matplotlib, so the same on every machine
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "text.color": INK,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: text in the PDF can be selected and edited
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "harmonizer",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,  # text is measured and drawn at the same resolution, as hinting changes its width
}
# Name -> width in inches and size of the text in points, from the venues' author guides of 2025.
PRESETS = {
    "icml-column": (3.25, 8.0),
    "icml": (6.75, 9.0),
    "neurips": (5.5, 9.0),
    "nature-column": (3.5, 7.0),
    "nature": (7.2, 7.0),
}


@dataclass(frozen=True)
class PlotOptions:
    """Options of the figures and the page."""

    title: str = "Perturbation tolerance and adversarial alignment"  # title of the page
    bars: str = "interval"  # error bars, "interval" (95 %) or "se"
    log: bool = False  # use a logarithmic axis for the tolerance
    grid: Sequence[str] = ()  # models of the grid of examples; see `choose_models`
    images: Sequence[str] = ()  # images of the grid; see `shared_keys`
    mask: str = "abs_of_mean"  # reduction of the perturbation's channels to the attack map; see `attack_map`
    labels: Sequence[str] = ()  # models labelled in every scatter plot
    width: float = 7.2  # width of each figure in inches
    font_size: float = 9.0  # size of the text in points
    headline: bool = True  # state the rank correlation above each scatter plot; captions always state it
    map_scale: str = "shared"  # colour scale of the maps in the grid: "shared", or "own" for each map
    attacked: bool = False  # show the attacked images in the grid too, their perturbations magnified
    own: Sequence[str] = ()  # models that the page highlights and ranks, in place of those trained here
    address: str = ""  # address of the published folder, for link previews


DEFAULT_OPTIONS = PlotOptions()


@contextmanager
def styled(font_size: float = DEFAULT_OPTIONS.font_size) -> Iterator[None]:
    """Use the style of the figures inside a ``with`` block, independent of the user's settings."""
    sizes = {"font.size": font_size, "axes.labelsize": font_size + 1}
    with mpl_style.context(["default", SETTINGS | sizes]):
        yield


def new_figure(width: float, height: float, *, pad: float = 0.04) -> Figure:
    """Return a figure, sizes in inches, that is independent of pyplot."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, wspace=0, hspace=0))
    FigureCanvasAgg(figure)
    return figure


def lay_out(figure: Figure) -> None:
    """Compute the final layout of a figure without drawing it."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)


def mark(figure: Figure, text: str) -> None:
    """Write a warning across the top of a figure, so that no copy lacks it."""
    figure.suptitle(wrapped(text, figure.get_figwidth(), 7.5), fontsize=7.5, color=WARNING, fontweight="bold")


def inches(text: str) -> float:
    """Parse a width: a number of inches, or a number with its unit.

    Raises:
        ValueError: It is not a width between 1 and 30 inches.

    >>> inches("3.25"), inches("6.75in"), round(inches("89mm"), 2)
    (3.25, 6.75, 3.5)
    """
    number = float(text.removesuffix("in").removesuffix("mm")) / (25.4 if text.endswith("mm") else 1)
    if not 1 <= number <= 30:
        raise ValueError(f"expected 1 to 30 inches, got {text}")
    return number


def wrapped(text: str, width: float, size: float) -> str:
    """Wrap text to a width in inches; ``size`` is the font size in points, and a letter is about 0.56 of it wide."""
    return "\n".join(textwrap.wrap(text, int(72 * width / (0.56 * size))))


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, reproducible byte for byte."""
    lay_out(figure)
    figure.set_layout_engine()  # the layout is fixed, and so the same in each file
    metadata: dict[str, dict[str, str | None]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        "svg": {"Date": None, "Creator": None},
    }
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    for path, kind in zip(paths, FORMATS, strict=True):
        with replacing(path) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata[kind], facecolor="white")
    return paths
