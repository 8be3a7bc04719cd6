"""The manifest of a shard folder, which lists its contents so that a lost or damaged sample is noticed."""

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
MOST_SAMPLES = 10**8  # per shard
MOST_SHARDS = 10**6
DECIMALS = 6  # of a stored ceiling: coarser than rounding that depends on the machine


@dataclass(frozen=True)
class Shard:
    """One tar file of a folder."""

    file: str  # name within the folder
    samples: int  # number of samples
    maps: int  # number of samples with a human map
    sha256: str  # checksum of the file


@dataclass(frozen=True)
class Ceilings:
    """Agreement between people, from the maps of single participants."""

    splits: int  # random halvings of an image's participants
    overall: float | None  # mean over images; None if no image has a ceiling
    floor: float | None  # the same correlation for mismatched images
    # split-half reliability by key, stepped up by Spearman-Brown; None where it is not defined
    per_image: dict[str, float | None]

    def of(self, key: str) -> float:
        """Return an image's own ceiling, else the overall one, else NaN."""
        own = self.per_image.get(key)
        found = self.overall if own is None else own
        return math.nan if found is None else found


@dataclass(frozen=True)
class Manifest:
    """Contents of a shard folder."""

    classes: tuple[str, ...]  # class names; label i is `classes[i]`
    maps: str  # description of how the human maps were prepared
    shards: tuple[Shard, ...]  # tar files in reading order
    version: int = VERSION  # format version
    ceilings: Ceilings | None = None  # None without maps of single participants
    repeated_keys: bool = False  # whether a key occurs in more than one shard; samples are then named by shard and key

    @property
    def samples(self) -> int:
        """Number of samples in all shards."""
        return sum(shard.samples for shard in self.shards)

    def digest(self) -> str:
        """Return the sha256 of the content, which identifies the data in results.

        ``repeated_keys`` does not change it: older manifests of the same data lack that field.
        """
        content = _content(replace(self, repeated_keys=False))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check a folder's manifest.

    Raises:
        FileNotFoundError: The folder or its manifest does not exist.
        OSError: The manifest is a pipe or a broken link.
        ValueError: The manifest is damaged or of another version; the message names the field.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise FileNotFoundError(f"no data folder at {folder}")
    if os.path.lexists(path) and not path.is_file():
        raise OSError(f"{path} is not a file, or is a broken link; expected a manifest")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {NAME}: is it a folder of shards?")
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(text: bytes, path: str) -> Manifest:
    """Parse and check a manifest; ``path`` is for messages.

    Raises:
        ValueError: The manifest is damaged or of another version; the message names the field.
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
            maps="" if content["maps"] == "" else plain_text(content["maps"], "maps"),  # empty in earlier versions
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
    """Return the manifest as a JSON object."""
    content = asdict(manifest)
    if manifest.ceilings is None:
        del content["ceilings"]
    if not manifest.repeated_keys:
        del content["repeated_keys"]
    return content


def parse_shard(content: object) -> Shard:
    """Parse the entry of a shard; its name must be safe and its counts possible."""
    shard = Shard(**_checked(Shard, content))
    safe_name(shard.file)
    if not 0 <= shard.maps <= shard.samples <= MOST_SAMPLES:
        raise ValueError(f"{shard.file} has {shard.maps} maps of {shard.samples} samples")
    return shard


def check_ceilings(values: Iterable[Any]) -> None:
    """Raise a TypeError unless all values are finite numbers or None."""
    for value in values:
        is_number = isinstance(value, float | int) and not isinstance(value, bool)
        if value is not None and not (is_number and math.isfinite(value)):
            raise TypeError(f"a ceiling is {shortened(value)}, expected a number")


def stored_ceiling(value: float) -> float | None:
    """Round a ceiling as it is stored; None stands for a value that is not defined."""
    return round(value, DECIMALS) if math.isfinite(value) else None


def mean_ceiling(values: Iterable[float | None]) -> float:
    """Return the mean of the defined ceilings; NaN if none is defined."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else math.nan


def _checked(kind: type, content: object) -> dict[str, Any]:
    """Return the fields of the dataclass ``kind`` after checking their types."""
    if not isinstance(content, dict):
        raise TypeError(f"{shortened(content)} is not a {kind.__name__}")
    for field in fields(kind):
        allowed: Any = dict if get_origin(field.type) is dict else field.type
        value = content[field.name]
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise TypeError(f"{field.name} is {shortened(value)}, expected {allowed}")
    return {field.name: content[field.name] for field in fields(kind)}
