"""``python -m harmonizer.report [RESULTS...] [--external FILE] [--accuracy FILE] --out DIR``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harmonizer.report.build import build_replay, build_report
from harmonizer.report.sensitivity import MASKS
from harmonizer.report.style import PlotOptions

ACCURACY = (
    "CSV with columns model and top1, as timm publishes: in place of the measured accuracy, where it has the model"
)

REPLAY = "only compare the 2023 protocol as published (attack=linsley2023_as_published) with the corrected one"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the report that the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser("python -m harmonizer.report", description="Make tables, figures and a web page.")
    add = parser.add_argument
    add("results", nargs="*", type=Path, help="results folders, or folders of them")
    add("--external", action="append", default=[], type=Path, metavar="FILE", help="published scores as CSV")
    add("--accuracy", action="append", default=[], type=Path, metavar="FILE", help=ACCURACY)
    add("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    add("--compare", nargs=2, action="append", default=[], metavar=("A", "B"), help="compare two models by name")
    add(
        "--bars",
        choices=("interval", "se"),
        default=PlotOptions.bars,
        help="error bars: 95 %% interval, or standard error",
    )
    add("--log", action="store_true", help="logarithmic axis for the tolerance")
    add("--grid", nargs="+", default=[], metavar="MODEL", help="models of the grid of examples")
    add("--images", nargs="+", default=[], metavar="KEY", help="images of the grid of examples")
    add("--mask", choices=tuple(MASKS), default=PlotOptions.mask, help="map of a perturbation that alignment compares")
    add("--replay", action="store_true", help=REPLAY)
    add(
        "--insert",
        type=Path,
        metavar="FILE",
        help="Markdown file to put the table into, between <!-- results --> marks",
    )
    add("--title", default=PlotOptions.title, help="of the page")
    given = parser.parse_args(arguments)
    options = PlotOptions(given.title, given.bars, given.log, given.grid, given.images, given.mask)
    read = {"external": given.external, "accuracy": given.accuracy}
    try:
        if given.replay:
            report = build_replay(given.results, given.out)
        else:
            more = {"pairs": given.compare, "options": options, "insert": given.insert}
            report = build_report(given.results, given.out, **read, **more)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stderr.writelines(f"note: {text}\n" for text in report.notes)
    sys.stdout.writelines(f"{path}\n" for path in report.files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
