"""Write, read and find results folders."""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonizer.results.behaviour import ANSWERS, BEHAVIOUR
from harmonizer.results.row import RADIUS, Row
from harmonizer.results.rows import Columns, read_rows, write_rows
from harmonizer.results.schema import ARRAYS, NAMES, check_examples, check_summary, load_arrays, numbers
from harmonizer.statistics import STATUSES, robust_accuracy
from harmonizer.untrusted import parse_json

SUMMARY, IMAGES, EXAMPLES = "summary.json", "images.csv", "examples.npz"
KEPT = (BEHAVIOUR, ANSWERS)  # files of another command, which a new measurement keeps


@dataclass
class Results:
    """One model's results, read from a folder.

    Attributes:
        folder: Results folder.
        summary: Content of ``summary.json``, with NaN and infinities as floats.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.summary["model"]["name"])

    @cached_property
    def columns(self) -> Columns:
        """The per-image rows as arrays; read, and checked against the summary, on first use."""
        path = self.folder / IMAGES
        columns = read_rows(path)
        counts = np.bincount(columns["status"], minlength=len(STATUSES)).tolist()
        for rows, status in zip(counts, STATUSES, strict=True):
            expected = self.summary["tolerance"][f"n_{status}"]
            if rows != expected:
                raise ValueError(
                    f"{path}: expected {expected} {status} images as in {SUMMARY}, got {rows}; measure again"
                )
        return columns

    @cached_property
    def robust_accuracy(self) -> list[dict[str, Any]]:
        """Robust accuracy at each budget, from the rows."""
        columns, eps_max = self.columns, float(self.summary["protocol"]["eps_max"])
        return robust_accuracy(columns["status"], columns[RADIUS], eps_max=eps_max)

    @property
    def has_examples(self) -> bool:
        """Whether the folder contains attacked examples."""
        return (self.folder / EXAMPLES).exists()

    @property
    def examples(self) -> dict[str, NDArray[Any]]:
        """All attacked examples; see :meth:`read_examples`."""
        return self.read_examples()

    @property
    def example_keys(self) -> list[str]:
        """The keys of the attacked examples, in the data's order."""
        arrays = load_arrays(self.folder / EXAMPLES, names=("keys",)) if self.has_examples else {}
        return [str(key) for key in arrays.get("keys", ())]

    def read_examples(self, most: int | None = None, *, saliency: bool = True) -> dict[str, NDArray[Any]]:
        """Read the first attacked examples; they are large, so nothing is cached.

        Args:
            most: Number of examples to decompress; None for all.
            saliency: Whether to read the saliency too.

        Returns:
            ``keys`` (E,), ``image`` and ``adversarial`` (E,3,H,W) in [0,1], ``human`` and ``saliency`` (E,H,W), and
            in later versions ``label`` and ``prediction`` (E,), names of classes. Empty without examples.
        """
        path = self.folder / EXAMPLES
        if not self.has_examples:
            return {}
        fields = ARRAYS if saliency else tuple(name for name in ARRAYS if name != "saliency")
        examples = load_arrays(path, most, (*fields, *NAMES))
        check_examples(examples, str(path), fields)
        return examples


def write_results(
    folder: Path,
    summary: Mapping[str, Any],
    rows: Iterable[Row],
    examples: Mapping[str, NDArray[Any]] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write one model's results, atomically.

    Args:
        folder: Folder to create, usually ``results / folder_name(model)``.
        summary: Content of ``summary.json``; see :mod:`harmonizer.results.schema`.
        rows: One row per image; see :mod:`harmonizer.results.rows`.
        examples: Arrays as in :attr:`Results.examples`.
        overwrite: Whether to replace existing results.

    Raises:
        FileExistsError: See :func:`refuse_existing`.
        ValueError: The summary, a row or an example is invalid; the message names it.
    """
    refuse_existing(folder, overwrite=overwrite)
    plain = encoded(summary)
    check_summary(numbers(plain), "summary")
    temporary, old = (folder.with_name(f".{folder.name}.{kind}{os.getpid()}") for kind in ("new", "old"))
    temporary.mkdir(parents=True)
    try:
        (temporary / SUMMARY).write_text(strict_json(plain), encoding="utf-8")
        write_rows(temporary / IMAGES, rows, tuple(plain.get("scores") or ()))
        if examples:
            check_examples(examples, "examples")
            np.savez_compressed(temporary / EXAMPLES, **dict(examples), allow_pickle=False)
        for name in KEPT:
            if (folder / name).is_file():
                shutil.copy2(folder / name, temporary / name)
        written = Results(temporary, plain)
        _ = written.columns  # the rows must agree with the summary before anything is replaced
        if folder.exists():
            folder.replace(old)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.replace(folder)
        shutil.rmtree(old, ignore_errors=True)


def refuse_existing(folder: Path, *, overwrite: bool = False) -> None:
    """Raise if a folder must not be replaced by new results.

    Raises:
        FileExistsError: The folder exists and ``overwrite`` is false, or it contains anything but results.
    """
    if not folder.exists():
        return
    try:
        content = parse_json((folder / SUMMARY).read_text(encoding="utf-8"))
        ours = isinstance(content, Mapping) and {"version", "model", "protocol"} <= content.keys()
    except (OSError, ValueError):
        ours = False
    there = {path.name for path in folder.iterdir()}
    if there and there <= set(KEPT):
        return
    others = sorted(there - {SUMMARY, IMAGES, EXAMPLES, *KEPT})
    if not ours or others:
        found = f"{others[0]}, which evaluate.py did not write" if others else f"no {SUMMARY} of evaluate.py"
        raise FileExistsError(f"{folder} holds {found}; move it away, or choose results=FOLDER")
    if not overwrite:
        raise FileExistsError(f"{folder} holds results already; add overwrite=true or choose results=FOLDER")


def load_results(folder: Path) -> Results:
    """Read one model's results and check the summary; rows and examples are read and checked on use.

    Raises:
        FileNotFoundError: The folder or its summary does not exist.
        ValueError: The summary is damaged; the message names the file and the field.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise FileNotFoundError(f"expected a results folder of evaluate.py, got {folder} without {SUMMARY}")
    try:
        content = parse_json(path.read_text(encoding="utf-8"), strict=True)
    except ValueError as error:
        raise ValueError(f"{path}: expected strict JSON ({error}); measure again") from None
    summary = numbers(content)
    check_summary(summary, str(path))
    return Results(folder, summary)


def find_results(paths: Sequence[Path]) -> list[Path]:
    """Find results folders: the paths themselves, or folders at any depth below them.

    Returns:
        The folders, sorted, each once. Hidden folders (incomplete ones) are skipped, links are followed.

    Raises:
        FileNotFoundError: A path does not exist, or contains no results.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(f"expected a results folder, or a folder of them, got {path}, which does not exist")
        here = [folder for folder in walk(path) if (folder / SUMMARY).is_file()]
        if not here:
            raise FileNotFoundError(
                f"no results in {path}: expected {SUMMARY} in it or below; measure a model with evaluate.py"
            )
        found |= {folder.resolve(): folder for folder in reversed(here)} | found
    return sorted(found.values())


def walk(path: Path) -> Iterator[Path]:
    """Yield a folder and its visible subfolders, sorted; links are followed, each real folder is yielded once."""
    seen: set[Path] = set()
    for name, below, _ in os.walk(path, followlinks=True):
        real = Path(name).resolve()
        if real in seen:  # a link to a folder above, or a second link to the same folder
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(folder for folder in below if not folder.startswith("."))
        yield Path(name)


def protocol_hash(settings: Mapping[str, Any]) -> str:
    """Return the hash of a protocol: results are comparable if their hashes are equal.

    Args:
        settings: All settings that affect the numbers: attack, its settings, eps_max, images, data. Plain JSON values.

    Returns:
        16 hexadecimal digits, the same for any order of the keys.

    >>> protocol_hash({"attack": "ddn", "steps": 60}) == protocol_hash({"steps": 60, "attack": "ddn"})
    True
    """
    text = json.dumps(encoded(settings), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def different_settings(wanted: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Compare a requested measurement with existing results.

    Args:
        wanted: Fields of a summary by block, as far as they are known before the measurement.
        summary: Summary of the existing results.

    Returns:
        The fields whose values differ, as dotted names with both values.

    >>> different_settings({"protocol": {"attack": "ddn"}}, {"protocol": {"attack": "pgd", "images": 8}})
    ['protocol.attack (pgd, wanted ddn)']
    """
    return [
        f"{block}.{field} ({found.get(field)}, wanted {value})"
        for block, fields in encoded(wanted).items()
        for found in [encoded(summary.get(block) or {})]
        for field, value in fields.items()
        if found.get(field) != value
    ]


def creation_time() -> str:
    """Return the time for ``created``: now, or ``SOURCE_DATE_EPOCH`` for results that are reproducible byte for byte.

    Reference:
        reproducible-builds.org, SOURCE_DATE_EPOCH specification.
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))


def strict_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as strict JSON; see :func:`encoded`."""
    return json.dumps(encoded(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def encoded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Convert a value to strict JSON: NaN to null, infinities to strings, NumPy's numbers to Python's."""
    if isinstance(value, Mapping):
        return {str(key): encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [encoded(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
