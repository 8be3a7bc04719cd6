"""Unfinished results of a model: locked by the process that measures it, and resumed after a crash.

Next to the results folder ``NAME`` are ``.locks/NAME``, the lock, and ``.NAME.part``, the unfinished work: the request,
the rows so far, examples, and a few numbers.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonizer.files import atomic_write, locked, replacing
from harmonizer.results.folder import encoded
from harmonizer.results.row import Row
from harmonizer.results.rows import OpenRows
from harmonizer.results.schema import load_arrays
from harmonizer.run import is_rank_zero
from harmonizer.statistics import Status
from harmonizer.untrusted import file_name, parse_json

LOCKS, REQUEST, STATE, EXAMPLE = ".locks", "request.json", "state.json", "example-*.npz"
Example = Mapping[str, NDArray[Any]]


@contextmanager
def lock_results(results: Path, model: str, *, ranks: bool = False) -> Iterator[None]:
    """Lock a model's results inside a ``with`` block; with ``ranks``, the first process holds the lock for all.

    Raises:
        BlockingIOError: Another process holds the lock.
    """
    if ranks and not is_rank_zero():
        yield
        return
    what = f"the results folder of {model} in {results}"
    with locked(results / LOCKS / file_name(model), what, "wait, or choose results=FOLDER"):
        yield


def clear_leftovers(folder: Path, *, done: bool) -> None:
    """Remove incomplete folders of interrupted processes next to a results folder; if ``done``, its work too.

    The caller holds the lock.
    """
    part = "|part" if done else ""
    left = re.compile(rf"\.{re.escape(folder.name)}\.((new|old)\d+{part})")
    for path in folder.parent.glob(".*"):
        if left.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


class Work:
    """Unfinished work on one model, in a hidden folder; work of a different request is deleted.

    Args:
        folder: Final results folder.
        request: Settings that affect the numbers, such as weights and attack; plain JSON values.
        rank: Rank of this process; each process has its own rows.
        world: Number of processes.
        extra: Columns of ``EXTRA`` in the rows.

    Attributes:
        rows: Rows of this process so far, by key.
        examples: Examples so far, by key, in the order of saving.
        state: Numbers saved with them.
    """

    def __init__(
        self, folder: Path, request: Mapping[str, Any], *, rank: int = 0, world: int = 1, extra: Sequence[str] = ()
    ) -> None:
        self.folder = folder.with_name(f".{folder.name}.part")
        self.rows: dict[str, Row] = {}
        self.examples: dict[str, Example] = {}
        self.state: dict[str, Any] = {}
        asked = json.dumps(encoded(request), sort_keys=True)
        if rank == 0:
            clear_leftovers(folder, done=False)
        if rank == 0 and _text(self.folder / REQUEST) != asked:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            atomic_write(self.folder / REQUEST, asked.encode())
        self._table = self.folder / f"images-{rank}-of-{world}.csv"
        self._open: OpenRows | None = None
        self._extra = extra
        self._kept = 0

    def start(self) -> None:
        """Read earlier work and open the table of rows; call it after the first process has created its object.

        Raises:
            ValueError: The table is damaged before its last line; the message names the file.
        """
        self.state = self._read_state()
        self._open = OpenRows(self._table, self._extra)
        done = self._open.done
        for values in zip(*(column.tolist() for column in done.values()), strict=True):
            row = Row(**dict(zip(done, values, strict=True)))
            self.rows[row.key] = replace(row, status=Status(row.status))
        for path in sorted(self.folder.glob(EXAMPLE)):
            example = load_arrays(path)
            if str(example.get("key")) in self.rows:  # otherwise its batch is attacked again
                self.examples[str(example.pop("key"))] = example
        self._kept = len(self.examples)

    def _read_state(self) -> dict[str, Any]:
        """Read the saved numbers."""
        path = self.folder / STATE
        try:
            state = parse_json(_text(path) or "{}")
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, got a damaged file ({error}); delete {self.folder}") from None
        if not isinstance(state, dict) or not all(
            isinstance(state.get(name, 0.0), float | int) for name in ("eps_max", "seconds")
        ):
            raise ValueError(f"{path}: expected numbers, got a damaged file; delete {self.folder}")
        return state

    def keep(self, rows: Iterable[Row], examples: Mapping[str, Example], state: Mapping[str, Any]) -> None:
        """Write finished images to the disk; rows are written last, as they mark an image as complete.

        Args:
            rows: Rows; those already written are ignored.
            examples: All examples so far, by key.
            state: All numbers so far.
        """
        assert self._open is not None
        for number, (key, example) in enumerate(examples.items()):
            if number >= self._kept:
                path = self.folder / EXAMPLE.replace("*", f"{number:03d}")
                with replacing(path) as temporary, temporary.open("wb") as file:
                    np.savez(file, key=np.array(key), **dict(example), allow_pickle=False)
                self._kept = number + 1
        self.save(state)
        new = [row for row in rows if row.key not in self.rows]
        self._open.append(new)
        self.rows |= {row.key: row for row in new}

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the numbers to the disk."""
        atomic_write(self.folder / STATE, json.dumps(encoded(state)).encode())

    def close(self) -> None:
        """Close the table of rows; the work is kept."""
        if self._open is not None:
            self._open.close()

    def remove(self) -> None:
        """Delete the work; its results are written."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _text(path: Path) -> str:
    """Read a text file; empty if it does not exist."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
