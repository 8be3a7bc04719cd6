"""List the samples of sources without reading them, and read single samples."""

import itertools
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from harmonizer.data.class_names import describe_order, imagenet_classes
from harmonizer.data.convert.readers.arrays import read_arrays, read_map
from harmonizer.data.convert.readers.class_folders import find_images
from harmonizer.data.convert.readers.click_table import ClickOptions
from harmonizer.data.convert.readers.clicks import find_clicks, is_click_table, read_trials
from harmonizer.data.convert.readers.examples import read_example
from harmonizer.data.convert.readers.images import open_image
from harmonizer.data.convert.readers.listing import TFRECORD_SUFFIX, Listing, list_source
from harmonizer.data.convert.readers.names import make_key
from harmonizer.data.convert.readers.record import Found, HumanMap, Item, Record
from harmonizer.data.convert.readers.table import read_table
from harmonizer.data.convert.readers.tfrecord import RecordError, index_records


def find(
    sources: Sequence[Path],
    *,
    classes: tuple[str, ...] | None = None,
    maps: Path | None = None,
    allow_missing_map: bool = False,
    images: Path | None = None,
    clicks: ClickOptions | None = None,
) -> Found:
    """List all samples.

    Args:
        sources: Files and folders.
        classes: Class names; None takes them from the sources.
        maps: Folder with one map file per image, under the same relative name; for folders of images.
        allow_missing_map: Accept samples without a map where the source has maps.
        images: Folder of the images of raw clicks.
        clicks: Which trials of raw clicks count; None takes the published defaults.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A source is of an unknown kind, two hold the same files, or two have different classes.
    """
    _refuse_repeated(sources)
    found = Found()
    for source in sources:
        listing = list_source(source)
        one = _find_source(source, listing, classes, maps, images, clicks or ClickOptions())
        if found.classes not in ((), one.classes):
            raise ValueError(f"{source} has other classes than the sources before it; list all of them with --classes")
        found.classes = one.classes
        found.items += [item._replace(wants_map=item.wants_map and not allow_missing_map) for item in one.items]
        found.problems += listing.problems + one.problems
        found.notes += listing.notes + one.notes
        found.filtered += one.filtered
    keys, renamed = set[str](), []
    for number, item in enumerate(found.items):
        numbered = (f"{item.key}_{count}" for count in itertools.count(2))
        key = next(key for key in itertools.chain([item.key], numbered) if key not in keys)
        keys.add(key)
        if key != item.key:
            renamed.append(f"{item.key} -> {key}")
            found.items[number] = item._replace(key=key)
    if renamed:
        found.notes.append(f"{len(renamed)} repeated keys get a number; first {renamed[0]}")
    found.notes.insert(0, describe_order(found.classes, given=classes is not None))
    return found


def _find_source(
    source: Path,
    listing: Listing,
    classes: tuple[str, ...] | None,
    maps: Path | None,
    images: Path | None,
    clicks: ClickOptions,
) -> Found:
    """List the samples of one source's files."""
    kind, members = listing.kind, listing.files
    if kind == "image":
        if not source.is_dir():
            raise ValueError(f"{source} is a single image without a label; give its folder, or a CSV table")
        return find_images(source, members, classes, maps)
    if maps is not None:
        raise ValueError(f"--maps is for folders of images; {source} holds {kind} files")
    if kind == "table":
        if len(members) > 1:
            raise ValueError(f"{source} holds {len(members)} tables; give them one by one")
        if is_click_table(members[0]):
            return find_clicks(members[0], images, clicks, classes)
        return read_table(members[0], classes)
    found = Found(classes=classes or imagenet_classes())
    if kind == "array":
        relative = [file.relative_to(source) if source.is_dir() else Path(file.name) for file in members]
        pairs = zip(members, relative, strict=True)
        found.items = [Item("arrays", make_key(name), str(file), wants_map=True) for file, name in pairs]
        return found
    for file in members:
        _index(file, found)
    return found


def _refuse_repeated(sources: Sequence[Path]) -> None:
    """Refuse a source that contains another one, whose samples would occur twice."""
    locations: dict[Path, Path] = {}
    for source in sources:
        location = source.resolve()
        for other, known in locations.items():
            if location == other:
                raise ValueError(f"{known} and {source} are the same source; give it once")
            if location in other.parents or other in location.parents:
                inner, outer = (source, known) if other in location.parents else (known, source)
                raise ValueError(f"{inner} is inside {outer}, which is also a source; give only one of them")
        locations[location] = source


def _index(file: Path, found: Found) -> None:
    """List the records of a TFRecord file, up to the first damaged header."""
    before, key = len(found.items), make_key(Path(TFRECORD_SUFFIX.sub("", file.name)))
    try:
        for record, extent in enumerate(index_records(file)):
            found.items.append(Item("example", f"{key}-{record:05d}", str(file), record, extent, wants_map=True))
    except RecordError as error:
        found.problems.append(error)
    except OSError as error:
        found.problems.append(RecordError(str(file), None, f"cannot read the file ({error.strerror})"))
    else:
        if len(found.items) == before:
            found.problems.append(RecordError(str(file), None, "the file is empty"))


def fingerprint(found: Found) -> str:
    """Return a digest of the classes, the samples, and the size and modification time of each file."""
    digest = sha256(repr(found.classes).encode())
    states: dict[str, tuple[int, int]] = {}
    for item in found.items:
        digest.update(repr(item).encode())
        for name in (item.file, item.image, item.human):
            if name is not None and name not in states:
                states[name] = _state(Path(name))
                digest.update(repr(states[name]).encode())
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, int]:
    """Return the size and modification time of a file; -1 for a missing one."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def read(item: Item, clicks: ClickOptions | None = None) -> Record:
    """Read a sample.

    Raises:
        RecordError: The sample cannot be used; the message names file, record and reason.
    """
    if item.kind == "example":
        return read_example(item)
    if item.kind == "arrays":
        return read_arrays(item)
    assert item.label is not None
    path = Path(item.image or item.file)
    encoded = item.read(path, path.name)
    if not encoded:
        raise item.error(f"{path.name} is empty" if item.image else "the file is empty")
    if item.kind == "clicks":
        options = clicks or ClickOptions()
        size = (options.click_size,) * 2 if options.click_size else open_image(encoded, item, "the image").size
        trials = read_trials(item, size, options)
        values = trials.total_counts() / len(trials.points)  # in pixels of the upright image
        return Record(encoded, item.label, HumanMap(values, float(values.max()), clicks=trials))
    human = None if item.human is None else read_map(Path(item.human), item)
    item.check_map(human)
    return Record(encoded, item.label, human)
