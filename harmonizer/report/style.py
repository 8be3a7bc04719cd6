"""The look of the figures: colours that colour-blind readers can tell apart, a marker a family, files without dates."""

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
    "other": "#56B4E9",
}
MARKERS = {
    "CNN": "o",
    "transformer": "s",
    "hybrid": "^",
    "adversarially robust": "D",
    "control": "p",
    "harmonized": "*",
    "other": "X",
}
AREA = {"harmonized": 190.0, "control": 75.0}  # of a measured model's marker in points^2; others MEASURED_AREA
MEASURED_AREA, PUBLISHED_AREA = 52.0, 20.0
INK, FAINT, WARNING = "#222222", "#D9D9D9", "#B00020"
FORMATS = ("png", "pdf", "svg")
SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "font.size": 9,
    "axes.labelsize": 10,
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
    "svg.hashsalt": "harmonizer",
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class PlotOptions:
    """How to draw.

    Attributes:
        title: Of the page.
        bars: Error bars, "interval" (95 %) or "se".
        log: Logarithmic axis for the tolerance.
        grid: Models of the grid of examples, in place of controls and the models harmonized from them.
        images: Images of the grid, in place of the first ones.
        mask: How the perturbation's channels become the map that alignment compares; see
            :func:`harmonizer.functional.attack_map`.
    """

    title: str = "Perturbation tolerance and adversarial alignment"
    bars: str = "interval"
    log: bool = False
    grid: Sequence[str] = ()
    images: Sequence[str] = ()
    mask: str = "abs_of_mean"


DEFAULT_OPTIONS = PlotOptions()


@contextmanager
def styled() -> Iterator[None]:
    """Use the look of the figures inside a ``with`` block, whatever the user's own settings are."""
    with mpl_style.context(["default", SETTINGS]):
        yield


def new_figure(width: float, height: float, *, pad: float = 0.04) -> Figure:
    """Make a figure, sizes in inches, that belongs to no window system and to no global list."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, wspace=0, hspace=0))
    FigureCanvasAgg(figure)
    return figure


def mark(figure: Figure, text: str) -> None:
    """Write a warning across the top of a figure, so that it cannot travel without it."""
    figure.suptitle(text, fontsize=7.5, color=WARNING, fontweight="bold")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, byte for byte the same each time."""
    metadata: dict[str, dict[str, str | None]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        "svg": {"Date": None, "Creator": None},
    }
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    for path, kind in zip(paths, FORMATS, strict=True):
        with replacing(path) as temporary:  # tight: whatever a layout has pushed over the edge is kept
            figure.savefig(temporary, format=kind, metadata=metadata[kind], facecolor="white", bbox_inches="tight")
    return paths
