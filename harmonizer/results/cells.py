"""CSV files: tables from users, and cells that no spreadsheet runs as a formula."""

import csv
from collections.abc import Sequence
from pathlib import Path

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of what a spreadsheet runs as a formula
MARK = "'"  # makes a cell text; spreadsheets do not show it


def text_cell(text: str) -> str:
    """Return text as a cell that no spreadsheet runs as a formula; :func:`cell_text` is the inverse.

    Reference:
        OWASP, "CSV Injection".

    >>> text_cell("=HYPERLINK(1)"), text_cell("resnet50"), text_cell("'=1")
    ("'=HYPERLINK(1)", 'resnet50', "''=1")
    """
    return MARK + text if text.lstrip(MARK).startswith(FORMULA) else text


def cell_text(cell: str) -> str:
    """Return the text of a cell of :func:`text_cell`.

    >>> cell_text("'=HYPERLINK(1)"), cell_text("'quoted'")
    ('=HYPERLINK(1)', "'quoted'")
    """
    return cell[1:] if cell.startswith(MARK) and cell.lstrip(MARK).startswith(FORMULA) else cell


def read_table(path: Path, columns: Sequence[str]) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Read a CSV table that has some columns; comment lines that begin with ``#`` may precede its header.

    Returns:
        The number of each line with its cells by column, and the comments without their ``#``.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The table is empty or damaged, or lacks a column; the message names the place.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    try:
        text = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected CSV in UTF-8 ({error})") from None
    comments = next((i for i, line in enumerate(text) if not line.startswith("#")), len(text))
    reader = csv.DictReader(text[comments:])
    if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}, {missing[0]} is missing")
    lines = []
    for line in reader:
        number = comments + reader.line_num
        if None in line or None in line.values():
            raise ValueError(f"{path}, line {number}: expected {len(reader.fieldnames or ())} cells")
        lines.append((number, {key: cell.strip() for key, cell in line.items()}))
    if not lines:
        raise ValueError(f"{path}: expected at least one line below the header, got an empty table")
    return lines, [line.lstrip("# ").strip() for line in text[:comments]]
