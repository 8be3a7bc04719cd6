"""``ceilings.json`` next to the shards: ceilings and floors of the kinds that the manifest does not hold, by name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from harmonizer.data.shards.manifest import check_ceilings, mean_ceiling, stored_ceiling
from harmonizer.files import atomic_write
from harmonizer.untrusted import parse_json

NAME = "ceilings.json"
VERSION = 1


@dataclass(frozen=True)
class Agreement:
    """Ceilings and floors of one kind."""

    kind: str  # method of measurement, such as `"clickme_v2"`
    score: str  # comparison of two maps: `"spearman"` or `"auc"`
    iterations: int  # halvings per image
    levels: int  # averaged levels of click counts; 1 is all clicks
    seed: int  # seed of the halvings
    ceilings: dict[str, float | None]  # by key; None where not defined
    floors: dict[str, float | None]  # by key, each with another image's people

    @property
    def ceiling(self) -> float:
        """Mean ceiling of the images; NaN where none is defined."""
        return mean_ceiling(self.ceilings.values())

    @property
    def floor(self) -> float:
        """Mean floor of the images; NaN where none is defined."""
        return mean_ceiling(self.floors.values())


def write_agreement(folder: Path, measured: Agreement) -> None:
    """Add ceilings to a folder's file, replacing those of the same kind and score."""
    known = [old for old in read_agreements(folder) if (old.kind, old.score) != (measured.kind, measured.score)]
    listed = sorted([*known, measured], key=lambda one: (one.kind, one.score))
    entries = [
        {"ceiling": stored_ceiling(one.ceiling), "floor": stored_ceiling(one.floor)} | asdict(one) for one in listed
    ]
    atomic_write(folder / NAME, json.dumps({"version": VERSION, "agreements": entries}, indent=1) + "\n")


def read_agreements(folder: Path) -> list[Agreement]:
    """Read a folder's file of ceilings; without a file the list is empty.

    Raises:
        ValueError: The file is damaged or of another version.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        content = parse_json(path.read_bytes(), strict=True)
        if not isinstance(content, dict) or content["version"] != VERSION:
            raise ValueError(f"expected version {VERSION}")
        return [_parse(entry) for entry in content["agreements"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and measure the ceilings again") from None


@contextmanager
def unfinished(folder: Path, settings: dict[str, Any]) -> Iterator[tuple[dict[str, tuple[Any, Any]], IO[str]]]:
    """Store results image by image, so that an interrupted measurement with the same settings can be resumed.

    Yields:
        Known ceilings and floors by key, and the file to which :func:`note` adds a line for each image. The file is
        removed at the end.
    """
    path = folder / f".ceilings-{settings['kind']}-{settings['score']}.partial"
    head = json.dumps(settings, sort_keys=True)
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    lines = [line for line in lines if line.endswith("\n")]  # an incomplete line belongs to an unfinished image
    if not lines or lines[0].rstrip("\n") != head:
        lines = [f"{head}\n"]
    atomic_write(path, "".join(lines))
    known = {}
    for line in lines[1:]:
        key, ceiling, floor = parse_json(line)
        known[key] = (ceiling, floor)
    with path.open("a") as file:
        yield known, file
    path.unlink()


def note(file: IO[str], key: str, ceiling: float, floor: float) -> tuple[float | None, float | None]:
    """Add an image to the file of an unfinished measurement; return the stored values."""
    stored = stored_ceiling(ceiling), stored_ceiling(floor)
    file.write(json.dumps([key, *stored]) + "\n")
    file.flush()
    return stored


def _parse(entry: dict[str, Any]) -> Agreement:
    """Parse one entry and check its values."""
    values = {name: entry[name] for name in ("ceilings", "floors")}
    for of_one in values.values():
        check_ceilings(of_one.values())
    iterations, levels, seed = (int(entry[name]) for name in ("iterations", "levels", "seed"))
    return Agreement(str(entry["kind"]), str(entry["score"]), iterations, levels, seed, **values)
