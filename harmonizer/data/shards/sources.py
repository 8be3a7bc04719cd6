"""Folders of shards that are trained on together: opened, and checked to tell the same classes apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harmonizer.data.direct.layout import Location, find_split
from harmonizer.data.opener import Opener
from harmonizer.data.shards.manifest import Manifest


@dataclass(frozen=True)
class Source:
    """A folder of shards and its share of an epoch.

    Attributes:
        location: Path or address.
        weight: Relative to the other sources'.
    """

    location: Location
    weight: float


def parse_sources(sources: Mapping[str, Any] | Sequence[Any], split: str) -> list[Source]:
    """Read the setting ``data.sources``: entries {folder, weight}, in a list or under names of their own.

    Raises:
        ValueError: An entry has other fields, or a weight that is not above 0.
    """
    entries = list(sources.values() if isinstance(sources, Mapping) else sources)
    for entry in entries:
        if not isinstance(entry, Mapping) or set(entry) != {"folder", "weight"} or not float(entry["weight"]) > 0:
            raise ValueError(f"expected each of data.sources to be {{folder, weight above 0}}, got {entry}")
    return [Source(find_split(entry["folder"], split), float(entry["weight"])) for entry in entries]


def open_manifests(locations: Sequence[Location], opener: Opener) -> list[Manifest]:
    """Read the manifests of folders that must name the same classes.

    Folders from elsewhere number their classes up to their largest label; they take the names of the others, or the
    longest numbering where none has names.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A manifest or shard is damaged, or two folders tell different classes apart.
    """
    manifests = [opener.manifest(location) for location in locations]
    named = [opener.has_names(location) for location in locations]
    if any(named):
        model = named.index(True)
    else:
        model = max(range(len(locations)), key=lambda number: len(manifests[number].classes))
    known = manifests[model].classes
    for location, manifest, is_named in zip(locations, manifests, named, strict=True):
        found = manifest.classes
        if not is_named and len(found) > len(known):
            raise ValueError(
                f"{location} has labels up to {len(found) - 1}, and {locations[model]} only {len(known)} classes"
            )
        if is_named and found != known:
            first = next((i for i, (a, b) in enumerate(zip(found, known, strict=False)) if a != b), len(known))
            raise ValueError(
                f"{location} and {locations[model]} name different classes, {len(found)} and {len(known)}; "
                f"label {first} is {_name(found, first)} and {_name(known, first)}"
            )
    return [replace(manifest, classes=known) for manifest in manifests]


def _name(classes: Sequence[str], index: int) -> str:
    """Name a class."""
    return repr(classes[index]) if index < len(classes) else "missing"
