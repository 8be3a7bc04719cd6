"""The results of an evaluation in Python: rows, aggregates, a figure and a results folder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harmonizer import results as stored
from harmonizer.report.data import Model
from harmonizer.report.survival import survival_curves
from harmonizer.results import COLUMNS, Row, write_results
from harmonizer.results.row import EXTRA
from harmonizer.results.rows import Columns
from harmonizer.statistics import STATUSES, Status


@dataclass(repr=False)
class Results(stored.Results):
    """The results of one model.

    Attributes:
        summary: All aggregates with intervals, as in ``summary.json``.
        rows: One row per image.
    """

    rows: Sequence[Row] = ()
    kept: dict[str, NDArray[Any]] = field(default_factory=dict)

    @cached_property
    def columns(self) -> Columns:
        """The rows as arrays, by column of ``images.csv``."""
        kinds: Mapping[Any, Any] = {str: np.str_, int: np.int64, float: np.float64}
        asked = {name: float for name in EXTRA if name in (self.summary.get("scores") or {})}
        return {
            name: np.array([getattr(row, name) for row in self.rows], dtype=kinds.get(kind, np.int64))
            for name, kind in {**COLUMNS, **asked}.items()
        }

    @property
    def has_examples(self) -> bool:
        """Whether there are attacked examples."""
        return bool(self.kept)

    @property
    def example_keys(self) -> list[str]:
        """Names of the attacked examples."""
        return [str(key) for key in self.kept.get("keys", ())]

    def read_examples(self, most: int | None = None, *, saliency: bool = True) -> dict[str, NDArray[Any]]:
        """Return the first attacked examples as arrays; empty if there are none."""
        return {name: array[:most] for name, array in self.kept.items()}

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a results folder, which ``harmonizer.report`` and :func:`harmonizer.load_results` read.

        Args:
            folder: Folder to create, for example ``results/my_net``.
            overwrite: Replace existing results.

        Raises:
            FileExistsError: The folder exists and ``overwrite`` is false, or it holds something else.
        """
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_results(folder, self.summary, self.rows, self.kept or None, overwrite=overwrite)
        return folder

    def plot(self, *others: stored.Results) -> Figure:
        """Plot the share of correctly classified images against the radius, with 95 % intervals.

        Args:
            others: Further results for the same figure.
        """
        models: list[Model] = []
        for number, each in enumerate((self, *others)):
            model = each.summary["model"]
            twice = any(before.name == model["label"] for before in models)
            name = f"{model['label']} ({number + 1})" if twice else model["label"]
            models.append(Model(name, model["name"], model["family"], each.summary["protocol"]["attack"], results=each))
        return survival_curves(models)

    def _scores(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield name, value, 95 % interval and number of images per aggregate."""
        summary, eps_max = self.summary, self.summary["protocol"]["eps_max"]
        blocks: dict[str, tuple[dict[str, Any] | None, str]] = {
            "accuracy": (summary["accuracy"], "value"),
            "tolerance, median L2": (summary["tolerance"]["median"], "value"),
            f"tolerance, mean of min(L2, {eps_max:g})": (summary["tolerance"]["restricted_mean"], "mean"),
            "adversarial alignment": (summary["adversarial_alignment"], "mean"),
            "feature alignment": (summary["feature_alignment"], "mean"),
        }
        for name, (block, key) in blocks.items():
            if block is not None and block["n"]:
                ends = "" if np.isnan(block["low"]) else f"[{block['low']:.3f}, {block['high']:.3f}]"
                yield name, f"{block[key]:.3f}", ends, block["n"]

    def _title(self) -> str:
        summary = self.summary
        counts = ", ".join(f"{summary['tolerance'][f'n_{status}']} {status}" for status in STATUSES)
        protocol = summary["protocol"]
        return f"{summary['model']['label']}: {protocol['images']} images, attack {protocol['attack']} ({counts})"

    def __repr__(self) -> str:
        rows = [("score", "value", "95 % interval", "images"), *((*row[:3], str(row[3])) for row in self._scores())]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        cells = "".join(
            f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in self._scores()
        )
        head = "<tr><th>score</th><th>value</th><th>95 % interval</th><th>images</th></tr>"
        return f"<p>{escape(self._title())}</p><table>{head}{cells}</table>"


def load_results(folder: str | Path) -> Results:
    """Read a results folder of evaluate.py or :meth:`Results.save`.

    Raises:
        FileNotFoundError: The folder does not exist or has no summary.
        ValueError: It is damaged; the message names the file and the field.
    """
    found = stored.load_results(Path(folder))
    columns = found.columns
    rows = [
        Row(**{name: column[i].item() for name, column in columns.items()} | {"status": Status(columns["status"][i])})
        for i in range(len(columns["key"]))
    ]
    return Results(Path(folder), found.summary, rows, found.examples)
