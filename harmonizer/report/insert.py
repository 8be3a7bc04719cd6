"""Put a generated table into a Markdown file, between two marks: a number in a document is never typed by hand."""

import re
from pathlib import Path

from harmonizer.files import temporary_name
from harmonizer.report.models import AXES
from harmonizer.report.paired import Comparison
from harmonizer.report.text import escaped, show

BEGIN, END = "<!-- results -->", "<!-- /results -->"
MARKS = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)


def pairs_markdown(comparisons: list[Comparison]) -> str:
    """Write pairs as a Markdown table: each score of both models, and the paired difference of their tolerance."""
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
        stated = "{mean:+.3f} [{low:+.3f}, {high:+.3f}], n = {n}".format(**difference) if difference else ""
        cells.insert(2, stated.replace("-", "\N{MINUS SIGN}"))
        lines.append([f"{escaped(pair.a.name)} → {escaped(pair.b.name)}", *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def insert_table(path: Path, table: str) -> None:
    """Replace what lies between the marks of a Markdown file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It does not have the two marks once.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no Markdown file at {path}")
    text = path.read_text(encoding="utf-8")
    if len(MARKS.findall(text)) != 1:
        raise ValueError(f"{path}: expected {BEGIN} and {END} once, to put the table between them")
    temporary = temporary_name(path)
    temporary.write_text(MARKS.sub(lambda _: f"{BEGIN}\n\n{table}\n{END}", text), encoding="utf-8", newline="")
    temporary.replace(path)
