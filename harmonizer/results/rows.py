"""Per-image rows as CSV: written at once, or appended during an evaluation; read as columns.

Floats round-trip exactly; an undefined value is an empty cell; a status is its lower-case name. In the file, a key that
a spreadsheet would run as a formula is prefixed with ``'``.
"""

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonizer.results.cells import cell_text, text_cell
from harmonizer.results.row import ADDED, COLUMNS, EXTRA, Row
from harmonizer.statistics import STATUSES, Status
from harmonizer.untrusted import is_name, shortened

Columns = dict[str, NDArray[Any]]
CODES = {word: code for code, word in enumerate(STATUSES)}
WRONG = (KeyError, ValueError, OverflowError)  # raised for an invalid cell
EXPECTED = {"status": f"one of {', '.join(STATUSES)}", "key": "a printable name"}  # other columns: a finite number


def write_rows(path: Path, rows: Iterable[Row], extra: Sequence[str] = ()) -> None:
    """Write a table of rows, replacing a file at ``path``; ``extra`` names columns of ``EXTRA`` to include.

    Raises:
        ValueError: A row contains an invalid value.
    """
    path.write_text(_header(extra) + format_rows(rows, extra), newline="")


def format_rows(rows: Iterable[Row], extra: Sequence[str] = ()) -> str:
    r"""Format rows as lines of CSV, without a header.

    >>> from harmonizer.statistics import Status
    >>> format_rows([Row(key="cat.1", label=1, prediction=2, status=Status.FOUND, eps=0.1, l2=0.1, forwards=3)])
    'cat.1,1,2,found,0.1,0.1,,,,,3,0,,,\n'
    """
    buffer = io.StringIO()
    names = _names(extra)
    csv.writer(buffer, lineterminator="\n").writerows([_cell(name, row) for name in names] for row in rows)
    return buffer.getvalue()


def read_rows(path: Path) -> Columns:
    """Read a table of rows as one array per column.

    Returns:
        Columns of N values, including those of ``EXTRA`` that the table has: ``key`` str, ``status`` int64 codes of
        ``STATUSES``, integers int64, floats float64 with NaN for an empty cell.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The table is damaged; the message names file, line and column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table of images at {path}")
    return parse_rows(path.read_bytes(), str(path))


def parse_rows(content: bytes, name: str, *, more: bool = True) -> Columns:
    """Parse a table of rows; result and errors are those of :func:`read_rows`.

    Args:
        content: CSV.
        name: Name of the table in messages.
        more: Whether to ignore further columns, such as those of later versions.
    """
    try:
        text = content.decode()
        if '"' in text or "\r" in text:
            lines = list(csv.reader(io.StringIO(text, newline="")))
        else:  # a report reads hundreds of tables, and this is three times faster
            lines = [line.split(",") for line in text.removesuffix("\n").split("\n")]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{name}: expected a table of images as CSV in UTF-8 ({error})") from None
    header = lines[0] if lines else []
    known = [column for column in (*COLUMNS, *EXTRA) if column not in (*ADDED, *EXTRA) or column in header]
    if known != ([column for column in header if column in (*COLUMNS, *EXTRA)] if more else header):
        raise ValueError(f"{name}, line 1: expected the columns {','.join(COLUMNS)}, got {','.join(header)!r}")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise ValueError(
                f"{name}, line {number}: expected {len(header)} cells, got {len(line)}; is the file cut off?"
            )
    values = list(zip(*lines[1:], strict=True)) or [()] * len(header)
    cells = dict(zip(header, values, strict=True))
    columns = {column: _column(name, column, cells[column]) for column in known}
    columns |= {column: np.full(len(columns["key"]), np.nan) for column in COLUMNS if column not in known}
    if len(set(columns["key"].tolist())) < len(columns["key"]):
        keys, counts = np.unique(columns["key"], return_counts=True)
        raise ValueError(f"{name}: expected every key once, got {str(keys[counts > 1][0])!r} more than once")
    return columns


class OpenRows:
    """A table that grows during an evaluation and survives a crash at any time.

    A line is complete once its line end is written; an incomplete last line is dropped on opening.

    Args:
        path: CSV file; created if missing.
        extra: Columns of ``EXTRA`` to include.

    Raises:
        ValueError: The file is not such a table, or is damaged before its last line.

    Attributes:
        done: Columns of the rows that the table contained on opening.
    """

    def __init__(self, path: Path, extra: Sequence[str] = ()) -> None:
        self._extra, header = extra, _header(extra)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            self._file.seek(0)
            content = self._file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._file.truncate(len(whole))
            self.done = parse_rows(whole or header.encode(), str(path), more=False)
            self._keys = set(self.done["key"].tolist())
            if not whole:
                self._write(header)
        except BaseException:
            self._file.close()
            raise

    def append(self, rows: Sequence[Row]) -> None:
        """Append rows and flush them to the disk.

        Raises:
            ValueError: A row is invalid, or its key is already in the table; no row is then added.
        """
        keys = [row.key for row in rows]
        if twice := [key for i, key in enumerate(keys) if key in self._keys or key in keys[:i]]:
            raise ValueError(f"expected every key once, got {twice[0]!r} again")
        self._write(format_rows(rows, self._extra))
        self._keys.update(keys)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, text: str) -> None:
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def _cell(name: str, row: Row) -> str:
    """Format one value of a row."""
    kind, value = COLUMNS.get(name, float), getattr(row, name)
    try:
        if kind is float and not math.isinf(value):
            return "" if math.isnan(value) else repr(float(value))
        if kind is int and int(value) == value and -(2**63) <= value < 2**63:
            return str(int(value))
        if kind is Status:
            return Status(value).word
        if kind is str and value and is_name(value):
            return text_cell(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"row {row.key!r}: expected {name} to be {_expected(name)}, got {value!r}")


def _column(file: str, name: str, cells: Sequence[str]) -> NDArray[Any]:
    """Convert the cells of a column; a ValueError names the first invalid line."""
    try:
        return _converted(name, cells)
    except WRONG:
        for number, cell in enumerate(cells, start=2):
            try:
                _converted(name, [cell])
            except WRONG:
                raise ValueError(
                    f"{file}, line {number}, column {name}: expected {_expected(name)}, got {shortened(cell)}"
                ) from None
        raise


def _expected(name: str) -> str:
    return EXPECTED.get(name, f"a finite {COLUMNS.get(name, float).__name__}")


def _converted(name: str, cells: Sequence[str]) -> NDArray[Any]:
    """Convert cells; raise one of ``WRONG`` for an invalid cell."""
    kind = COLUMNS.get(name, float)
    if kind is Status:
        return np.array([CODES[cell] for cell in cells], np.int64)
    if kind is int:
        return np.array(cells, np.int64)
    if kind is float:
        values = np.array([cell or "nan" for cell in cells], np.float64)
        if np.isinf(values).any():
            raise ValueError
        return values
    if not is_name("".join(cells)):
        raise ValueError
    return np.array(list(map(cell_text, cells)), np.str_)


def _names(extra: Sequence[str]) -> list[str]:
    """Return the names of a table's columns."""
    return [*COLUMNS, *(name for name in EXTRA if name in extra)]


def _header(extra: Sequence[str]) -> str:
    """Return a table's first line."""
    return ",".join(_names(extra)) + "\n"
