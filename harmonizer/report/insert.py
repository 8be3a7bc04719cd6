"""Put a generated table into a Markdown file, between two marks: a number in a document is never typed by hand."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harmonizer.files import atomic_write
from harmonizer.report.data import AXES
from harmonizer.report.paired import Comparison
from harmonizer.report.tables import NONE, escaped, estimate, show

BEGIN, END = "<!-- results -->", "<!-- /results -->"
MARKS = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)


def pairs_markdown(comparisons: list[Comparison]) -> str:
    """Write pairs as a Markdown table: each score of both models, and the paired difference of their tolerance."""
    if not comparisons:
        return "No pairs: there is no control with a model harmonized from it; name two models with --compare A B.\n"
    axes = {key: axis for key, axis in AXES.items() if any(key in pair.b.scores for pair in comparisons)}
    titles = ["Pair", *(axis.short for axis in axes.values())]
    titles.insert(3, "Paired difference, 95 %")
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for pair in comparisons:
        cells = [
            f"{show(pair.a.scores.get(key), axis.digits)} → {show(pair.b.scores.get(key), axis.digits)}"
            for key, axis in axes.items()
        ]
        difference = pair.differences.get("tolerance")
        cells.insert(2, _difference(difference) if difference else NONE)
        lines.append([f"{escaped(pair.a.name)} → {escaped(pair.b.name)}", *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _difference(found: Mapping[str, Any]) -> str:
    """Show a paired difference, its interval as far as it has one, and its number of images."""
    return f"{estimate(found['mean'], found['low'], found['high'], sign='+')}, n = {found['n']}"


def insert_table(path: Path, table: str) -> None:
    """Replace what lies between the marks of a Markdown file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not have the two marks once.
    """
    text = inserted(path, table)
    atomic_write(path, text)


def inserted(path: Path, table: str) -> str:
    """Return a Markdown file's text with a table between its marks.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not have the two marks once.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no Markdown file at {path}")
    text = path.read_text(encoding="utf-8")
    if len(MARKS.findall(text)) != 1:
        raise ValueError(f"{path}: expected {BEGIN} and {END} once, to put the table between them")
    return MARKS.sub(lambda _: f"{BEGIN}\n\n{table}\n{END}", text)
