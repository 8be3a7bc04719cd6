"""Open locations of samples: shards on disk or at an address, or images that are read directly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harmonizer.data.dataset import OnError, SampleFolder
from harmonizer.data.direct.folder import DirectFolder, Reading, open_direct, print_note
from harmonizer.data.direct.huggingface import DatasetSplit
from harmonizer.data.direct.layout import Location, find_split, image_among_shards, is_direct
from harmonizer.data.shards.manifest import NAME, Manifest
from harmonizer.data.shards.reader import ShardFolder, folder_manifest, has_repeated_keys
from harmonizer.data.shards.remote import RemoteCache, is_remote


class Opener:
    """Open locations of samples.

    Args:
        cache: Cache of remote shards.
        reading: Options for images that are not shards.
        on_error: What to do with an unusable image; see :func:`open_direct`.
        verify: As for :class:`ShardFolder`.
    """

    def __init__(self, cache: RemoteCache, reading: Reading, *, on_error: OnError, verify: bool) -> None:
        self.cache, self.reading, self.on_error, self.verify = cache, reading, on_error, verify
        self._direct: dict[str, DirectFolder | None] = {}

    def direct(self, location: Location) -> DirectFolder | None:
        """Return images that are read directly; None if the location holds shards or nothing.

        Raises:
            ImportError, FileNotFoundError, ValueError: As for :func:`open_direct`; or settings for such images are
                given for shards.
        """
        name = str(location)
        if name not in self._direct:
            if is_direct(location):
                self._direct[name] = open_direct(location, self.reading, on_error=self.on_error)
                return self._direct[name]
            self._direct[name] = None
            if given := self.reading.given():
                raise ValueError(f"{given} is for images that are not shards, but {location} holds shards or nothing")
            image = None if isinstance(location, DatasetSplit) else image_among_shards(location)
            if image is not None:
                print_note(f"{location} holds shards and images, such as {image}; the shards are read, not the images")
        return self._direct[name]

    def manifest(self, location: Location) -> Manifest:
        """Return the manifest of a location."""
        direct = self.direct(location)
        if direct is not None:
            return direct.manifest
        assert not isinstance(location, DatasetSplit)
        return folder_manifest(location, cache=self.cache)

    def folder(self, location: Location, manifest: Manifest) -> SampleFolder:
        """Return a location's samples; the manifest may have the class names of another location."""
        direct = self.direct(location)
        if direct is not None:
            direct.manifest = manifest
            return direct
        assert not isinstance(location, DatasetSplit)
        return ShardFolder(location, manifest=manifest, cache=self.cache, verify=self.verify)

    def has_repeated_keys(self, location: Location, manifest: Manifest) -> bool:
        """Return whether samples are named by shard and key."""
        return (
            not isinstance(location, DatasetSplit)
            and not self.direct(location)
            and has_repeated_keys(location, manifest)
        )

    def has_names(self, location: Location) -> bool:
        """Return whether a location names its classes; remote ones must."""
        if isinstance(location, DatasetSplit) or is_remote(location):
            return True
        return self.direct(location) is not None or (Path(location) / NAME).is_file()


def exists(location: Location) -> bool:
    """Return whether a location exists; a remote one is assumed to."""
    return isinstance(location, DatasetSplit) or is_remote(location) or Path(location).exists()


@dataclass(frozen=True)
class Source:
    """A folder of shards and its share of an epoch."""

    location: Location  # path or address
    weight: float  # relative to the other sources


def parse_sources(sources: Mapping[str, Any] | Sequence[Any], split: str) -> list[Source]:
    """Parse the setting ``data.sources``: a list or mapping of entries {folder, weight}.

    Raises:
        ValueError: An entry has other fields, or a weight that is not above 0.
    """
    entries = list(sources.values() if isinstance(sources, Mapping) else sources)
    for entry in entries:
        if not isinstance(entry, Mapping) or set(entry) != {"folder", "weight"} or not float(entry["weight"]) > 0:
            raise ValueError(f"expected each of data.sources to be {{folder, weight above 0}}, got {entry}")
    return [Source(find_split(entry["folder"], split), float(entry["weight"])) for entry in entries]


def open_manifests(locations: Sequence[Location], opener: Opener) -> list[Manifest]:
    """Read the manifests of folders that must have the same classes.

    Folders without class names number their classes up to their largest label. They take the names of the others, or
    the longest numbering if none has names.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A manifest or shard is damaged, or two folders have different classes.
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
    """Return the name of a class for messages."""
    return repr(classes[index]) if index < len(classes) else "missing"
