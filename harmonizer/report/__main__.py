"""``python -m harmonizer.report [RESULTS...] [--external FILE] [--accuracy FILE] --out DIR``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from harmonizer.cli.console import show_lines, show_table
from harmonizer.report.build import build_replay, build_report
from harmonizer.report.grid import RENDERINGS
from harmonizer.report.sensitivity import MASKS
from harmonizer.report.serve import serve
from harmonizer.report.style import DEFAULT_OPTIONS, PRESETS, PlotOptions, inches

ACCURACY = "ImageNet accuracy as CSV with columns model and top1, as timm publishes; replaces the measured accuracy"
MOST_ROWS = 40  # most rows of the table in the terminal
REPLAY = "only compare the 2023 protocol as published (attack=linsley2023_as_published) with the corrected one"


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; options of figures are named like the fields of :class:`PlotOptions`."""
    parser = argparse.ArgumentParser("python -m harmonizer.report", description="Make tables, figures and a web page.")
    add = parser.add_argument
    add("results", nargs="*", type=Path, help="results folders, or folders of them")
    add("--external", action="append", default=[], type=Path, metavar="FILE", help="published scores as CSV")
    add("--accuracy", action="append", default=[], type=Path, metavar="FILE", help=ACCURACY)
    add("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    add("--compare", nargs=2, action="append", default=[], metavar=("A", "B"), help="compare two models by name")
    add("--insert", type=Path, metavar="FILE", help="insert the table between the <!-- results --> marks of a file")
    add("--serve", nargs="?", type=int, const=0, metavar="PORT", help="serve DIR on this machine and open a browser")
    add("--replay", action="store_true", help=REPLAY)
    add("--mask", choices=tuple(MASKS), help="attack map that alignment compares with the human map")
    add("--title", help="title of the page")
    add("--own", nargs="+", metavar="MODEL", help="models that the page highlights and ranks among the others")
    add("--url", dest="address", help="address of the published folder, which link previews need")
    add = parser.add_argument_group("figures").add_argument
    add("--preset", choices=tuple(PRESETS), help="width and font size of a venue's figures")
    add("--width", type=inches, help="width, such as 3.25, 3.25in or 89mm (default 7.2in)")
    add("--font-size", type=float, metavar="POINTS", help="font size (default 9)")
    add("--no-headline", dest="headline", action="store_false", help="state the correlation in the caption only")
    add("--bars", choices=("interval", "se"), help="error bars: 95 %% interval, or standard error")
    add("--log", action="store_true", help="logarithmic axis for the tolerance")
    add("--label", action="append", dest="labels", metavar="MODEL", help="label this model in the scatter plots")
    add("--grid", nargs="+", metavar="MODEL", help="models of the grid of examples")
    add("--images", nargs="+", metavar="KEY", help="images of the grid of examples")
    add("--categories", type=Path, metavar="FILE", help="CSV of class and category, animate or inanimate")
    add("--map-scale", choices=tuple(RENDERINGS), help="colour scale of the grid's maps: shared, or own for each map")
    add("--attacked", action="store_true", help="show the attacked images in the grid too")
    parser.set_defaults(**vars(DEFAULT_OPTIONS) | {"width": None, "font_size": None, "labels": []})
    return parser.parse_args(given)


def show_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print the table of models; a column with the same cell for all models becomes a note below it."""
    table, notes, columns = Table(box=SIMPLE_HEAD, pad_edge=False), [], []
    for i, title in enumerate(rows[0]):
        cells = {row[i] for row in rows[1:]}
        if i and len(cells) == 1 < len(rows) - 1:
            notes.append(f"{title}: {cells.pop()}")
        else:
            table.add_column(title, overflow="fold", min_width=max(map(len, cells)) if i else None)
            columns.append(i)
    for row in rows[1:]:
        table.add_row(*(Text(row[i]) for i in columns))
    show_table(table, *notes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the report; return the exit status."""
    given = arguments_of(arguments)
    try:
        if given.serve is None or given.results or given.external:
            _build(given)
        if given.serve is not None:
            serve(given.out, given.serve)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _build(given: argparse.Namespace) -> None:
    """Make the report and print its notes, its table and its files."""
    width, size = PRESETS.get(given.preset, (DEFAULT_OPTIONS.width, DEFAULT_OPTIONS.font_size))
    given.width, given.font_size = given.width or width, given.font_size or size
    options = PlotOptions(**{field.name: getattr(given, field.name) for field in fields(PlotOptions)})
    read = {name: getattr(given, name) for name in ("external", "accuracy", "categories", "insert")}
    if given.replay:
        report = build_replay(given.results, given.out)
    else:
        report = build_report(given.results, given.out, pairs=given.compare, options=options, **read)
    sys.stderr.writelines(f"note: {text}\n" for text in report.notes)
    if 1 < len(report.table) <= MOST_ROWS:
        show_rows(report.table)
    show_lines(*(str(path) for path in report.files if given.replay or path.suffix == ".html"))
    if not given.replay:
        show_lines(f"and {len(report.files) - 1} tables, figures and captions in {given.out}")


if __name__ == "__main__":
    sys.exit(main())
