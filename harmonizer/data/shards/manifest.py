"""The manifest of a shard folder: what it holds, so that a lost or damaged sample is noticed."""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_origin

from harmonizer.files import atomic_write
from harmonizer.untrusted import MOST_CLASSES, parse_json, plain_text, safe_name, shortened

NAME = "manifest.json"
VERSION = 1
MOST_SAMPLES = 10**8  # of a shard
MOST_SHARDS = 10**6
DECIMALS = 6  # of a ceiling that is stored: below any rounding that depends on the machine


@dataclass(frozen=True)
class Shard:
    """One tar file of a folder."""

    file: str  # name within the folder
    samples: int  # samples in it
    maps: int  # samples with a human map in it
    sha256: str  # sha256 of the file


@dataclass(frozen=True)
class Ceilings:
    """How well people agree, from the maps of single participants."""

    splits: int  # random halvings of an image's participants
    overall: float | None  # mean over images; None where no image has one
    floor: float | None  # the same correlation for mismatched images
    # split-half reliability, stepped up by Spearman-Brown, by key; None where it is not defined
    per_image: dict[str, float | None]

    def of(self, key: str) -> float:
        """Return what people reach on an image: its own ceiling, else the overall one, else NaN."""
        own = self.per_image.get(key)
        found = self.overall if own is None else own
        return math.nan if found is None else found


@dataclass(frozen=True)
class Manifest:
    """What a shard folder holds."""

    classes: tuple[str, ...]  # class names; label i is `classes[i]`
    maps: str  # how the human maps were prepared, in words
    shards: tuple[Shard, ...]  # its tar files, in reading order
    version: int = VERSION  # version of this format
    ceilings: Ceilings | None = None  # where the maps of single participants are known
    repeated_keys: bool = False  # whether a key occurs in more than one shard. Then a sample is named by shard and key

    @property
    def samples(self) -> int:
        """Number of samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    def digest(self) -> str:
        """Return a sha256 over the content, to name the data in results.

        How samples are named does not change the data: a manifest that does not say so yet has the same digest.
        """
        content = _content(replace(self, repeated_keys=False))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check a folder's manifest.

    Raises:
        FileNotFoundError: There is no such folder, or no manifest in it.
        OSError: The manifest is a pipe or a link that leads nowhere.
        ValueError: The manifest is damaged or of another version; the message names the field.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise FileNotFoundError(f"no data folder at {folder}")
    if os.path.lexists(path) and not path.is_file():
        raise OSError(f"{path} is no file, or a link that leads nowhere; expected a manifest")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {NAME}: is it a folder of shards?")
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(text: bytes, path: str) -> Manifest:
    """Read and check a manifest; ``path`` names it in messages.

    Raises:
        ValueError: It is damaged or of another version; the message names the field.
    """
    try:
        content = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); write the folder again") from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(f"{path}: expected version {VERSION} of the manifest; write the folder again")
    try:
        for field, most in (("classes", MOST_CLASSES), ("shards", MOST_SHARDS)):
            if not isinstance(content[field], list) or len(content[field]) > most:
                raise TypeError(f"{field} must be a list of at most {most}")
        if not isinstance(content.get("repeated_keys", False), bool):
            raise TypeError("repeated_keys must be true or false")
        shards = tuple(parse_shard(item) for item in content["shards"])
        files = Counter(shard.file for shard in shards)
        if repeated := [file for file, count in files.items() if count > 1]:
            raise TypeError(f"the shard {repeated[0]!r} is listed twice")
        ceilings = Ceilings(**_checked(Ceilings, content["ceilings"])) if "ceilings" in content else None
        check_ceilings([] if ceilings is None else [ceilings.overall, *ceilings.per_image.values()])
        return Manifest(
            classes=tuple(plain_text(name, "classes") for name in content["classes"]),
            maps="" if content["maps"] == "" else plain_text(content["maps"], "maps"),  # earlier versions left it empty
            shards=shards,
            ceilings=ceilings,
            repeated_keys=content.get("repeated_keys", False),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: missing or wrong field ({error}); write the folder again") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a folder's manifest, atomically."""
    atomic_write(folder / NAME, json.dumps(_content(manifest), indent=1) + "\n")


def _content(manifest: Manifest) -> dict[str, Any]:
    """Return what is written."""
    content = asdict(manifest)
    if manifest.ceilings is None:
        del content["ceilings"]
    if not manifest.repeated_keys:
        del content["repeated_keys"]
    return content


def parse_shard(content: object) -> Shard:
    """Return the entry of a shard when its name is safe and its counts are possible."""
    shard = Shard(**_checked(Shard, content))
    safe_name(shard.file)
    if not 0 <= shard.maps <= shard.samples <= MOST_SAMPLES:
        raise ValueError(f"{shard.file} has {shard.maps} maps of {shard.samples} samples")
    return shard


def check_ceilings(values: Iterable[Any]) -> None:
    """Raise a TypeError unless all values are finite numbers, or None."""
    for value in values:
        is_number = isinstance(value, float | int) and not isinstance(value, bool)
        if value is not None and not (is_number and math.isfinite(value)):
            raise TypeError(f"a ceiling is {shortened(value)}, expected a number")


def stored_ceiling(value: float) -> float | None:
    """Return what is stored of a ceiling: None for a value that is not defined."""
    return round(value, DECIMALS) if math.isfinite(value) else None


def _checked(kind: type, content: object) -> dict[str, Any]:
    """Return the fields of the dataclass ``kind`` when they have its types."""
    if not isinstance(content, dict):
        raise TypeError(f"{shortened(content)} is no {kind.__name__}")
    for field in fields(kind):
        allowed: Any = dict if get_origin(field.type) is dict else field.type
        value = content[field.name]
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise TypeError(f"{field.name} is {shortened(value)}, expected {allowed}")
    return {field.name: content[field.name] for field in fields(kind)}
