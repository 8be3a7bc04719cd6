"""The log of a run as one CSV file, which a resumed run continues without a trace."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from harmonizer.files import atomic_write

STEP = "step"


class MetricsFile(Logger):
    """Write each row immediately: ``step``, counted from 0, and the logged values.

    Args:
        path: CSV file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: a run folder has one log."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object) -> None:
        """Do nothing: the run folder holds the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; rewrite the file if there are new columns."""
        row = {STEP: step} | {name: float(value) for name, value in metrics.items()}
        new = [name for name in row if name not in self._columns]
        if new:
            rows = self.rows()
            self._columns += new
            self._rewrite([*rows, row])
        else:
            with self.path.open("a", newline="") as file:
                file.write(_lines(self._columns, [row]))

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Remove the rows that a resumed run repeats, and a truncated last row.

        Args:
            step: Number of optimiser steps in the checkpoint; 0 clears the log.
        """
        rows = [row for row in self.rows() if int(row[STEP]) < step]
        used = {name for row in rows for name, value in row.items() if value != ""}
        self._columns = [name for name in self._columns if name in used]
        if rows or self.path.exists():
            self._rewrite(rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return the complete rows of the file, as text."""
        if not self.path.exists():
            return []
        text = self.path.read_text()
        reader = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
        self._columns = list(reader.fieldnames or [])
        return list(reader)

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        header = dict(zip(self._columns, self._columns, strict=True))
        atomic_write(self.path, _lines(self._columns, [header, *rows]))


def _lines(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """Format rows as lines of CSV."""
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n").writerows(rows)
    return text.getvalue()
