"""Read images directly, without shards: list them, check each once, and read them by index."""

import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from harmonizer.cli.console import print_rank_zero
from harmonizer.data.class_names import parse_classes
from harmonizer.data.convert.job import Options, convert_record
from harmonizer.data.convert.readers.discover import find, fingerprint, read
from harmonizer.data.convert.readers.record import Found, Item, Record, Stack
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.dataset import DamagedSample, OnError
from harmonizer.data.direct.check import check_samples, choose_preparation, encoded
from harmonizer.data.direct.huggingface import DatasetSplit, is_saved_dataset, open_saved
from harmonizer.data.direct.layout import Location, images_and_maps
from harmonizer.data.human_map import Method
from harmonizer.data.shards.manifest import NAME, Manifest, read_manifest, write_manifest
from harmonizer.data.shards.reader import RawSample
from harmonizer.data.shards.tar_index import ROLES
from harmonizer.files import cache_folder
from harmonizer.untrusted import plain_text

VERSION = 1  # version of the converted samples; those of another version are checked again


@dataclass(frozen=True)
class Reading:
    """Options of the converter, of the same names, for images that are read directly; None is chosen by the data.

    Raises:
        ValueError: The preparation or stack is unknown.
    """

    maps: str | Path | None = None
    classes: str | int | None = None
    prepare: Method | None = None
    stack: Stack | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("prepare", get_args(Method)), ("stack", get_args(Stack))):
            if getattr(self, name) not in (None, *kinds):
                raise ValueError(
                    f"expected {name} to be one of {', '.join(kinds)}, or null, got {getattr(self, name)!r}"
                )

    def given(self) -> str:
        """Return the settings that are not None, as typed on the command line."""
        return " ".join(f"data.{name}={value}" for name, value in vars(self).items() if value is not None)


class DirectFolder:
    """Samples by their index, converted as for a shard, with the interface of ShardFolder.

    Args:
        location: Location for messages.
        entries: Samples, followed by the unusable ones.
        read: Function that reads a sample.
        options: Options of the conversion.
        manifest: Manifest of all samples, with a single shard.
    """

    def __init__(
        self,
        location: Location,
        entries: list[Item | RecordError],
        read: Callable[[Item], Record],
        options: Options,
        manifest: Manifest,
    ) -> None:
        self.location = location
        self.manifest = manifest
        self._entries, self._read, self._options = entries, read, options

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, number: int) -> RawSample:
        """Read a sample.

        Raises:
            DamagedSample: The sample cannot be used.
        """
        entry = self._entries[number]
        try:
            if isinstance(entry, RecordError):
                raise entry
            sample = convert_record(self._read(entry), entry, self._options).sample
        except RecordError as error:
            raise DamagedSample(in_settings(error)) from None
        members = {name: encoded(value) for name, value in sample.items() if name in ROLES}
        return RawSample(sample["__key__"], sample["__key__"], str(self.location), members)


def open_direct(location: Location, reading: Reading, *, on_error: OnError = "fail") -> DirectFolder:
    """Open images to read them directly. Each is checked once, and their manifest is kept in the user's cache.

    Raises:
        FileNotFoundError: The folder of maps does not exist.
        ImportError: The location is a Hugging Face dataset and its package is not installed.
        ValueError: There are no images, one of them cannot be used, or the preparation does not fit the maps.
    """
    try:
        found, read, state = _list(location, reading)
        problem = next(iter(found.problems), None)
        if problem is not None and (on_error == "fail" or not found.items):
            raise problem
        if not found.items:
            raise ValueError(f"{location} holds no images")
        for name in found.classes:
            plain_text(name, f"{location}: name of a class")
        return _opened(location, found, read, reading, state, on_error)
    except FileNotFoundError as error:
        raise FileNotFoundError(in_settings(error)) from None
    except ValueError as error:
        raise ValueError(in_settings(error)) from None


def in_settings(error: Exception) -> str:
    """Return the message of an error of the converter's readers with the names of settings in place of options.

    >>> in_settings(ValueError("--prepare none keeps any; name them with --classes (a number)"))
    'data.prepare=none keeps any; name them with data.classes (a number)'
    """
    text = re.sub(r"--(prepare|stack) (\w+)|--(classes) (FILE|imagenet)", r"data.\1\3=\2\4", str(error))
    return re.sub(r"--(prepare|stack|classes|maps)\b", r"data.\1", text)


def _list(location: Location, reading: Reading) -> tuple[Found, Callable[[Item], Record], str | None]:
    """List samples; return them, the function that reads one, and a digest of their state, if there is one."""
    classes = None if reading.classes is None else parse_classes(str(reading.classes))
    if not isinstance(location, DatasetSplit) and is_saved_dataset(Path(location)):
        location = open_saved(Path(location))
    if isinstance(location, DatasetSplit):
        if reading.maps is not None:
            raise ValueError(f"--maps is for folders of images; {location} has a column map, or no maps")
        return location.find(classes), location.read, None
    path, maps = Path(location), None if reading.maps is None else Path(reading.maps)
    if path.is_dir():
        tables = sorted(path.glob("*.csv"))
        if tables:
            raise ValueError(f"{path} holds the table {tables[0].name}; give the table, or move it out of the folder")
        path, maps = images_and_maps(path, maps)
    found = find([path], classes=classes, maps=maps, allow_missing_map=True)
    return found, read, fingerprint(found)


def _opened(
    location: Location,
    found: Found,
    read: Callable[[Item], Record],
    reading: Reading,
    state: str | None,
    on_error: OnError,
) -> DirectFolder:
    """Check the samples unless that has been done, and print notes on them."""
    identity = hashlib.sha256(f"{VERSION} {state} {reading.prepare} {reading.stack}".encode()).hexdigest()[:32]
    entry = cache_folder("manifests") / identity
    options = Options(classes=len(found.classes), prepare=reading.prepare or "none", stack=reading.stack)
    entries: list[Item | RecordError] = [*found.items, *found.problems]
    if state is not None and (entry / NAME).is_file():
        manifest = read_manifest(entry)
        if reading.prepare is None and manifest.maps.startswith("fel2022"):
            options = replace(options, prepare="fel2022")
    else:
        options = replace(options, prepare=choose_preparation(location, found, read, reading.prepare))
        manifest, usable = check_samples(location, found, read, options, on_error)
        if state is not None and usable:
            entry.mkdir(parents=True, exist_ok=True)
            write_manifest(entry, manifest)
    shard = manifest.shards[0]
    for note in (*found.notes, f"{shard.maps} of {shard.samples} images have a human map ({manifest.maps})"):
        print_note(f"{location}: {in_settings(ValueError(note)).removeprefix(f'{location}: ')}")
    return DirectFolder(location, entries, read, options, manifest)


@functools.cache
def print_note(note: str) -> None:
    """Print a note, once for all models of a sweep."""
    print_rank_zero(f"note: {note}")
