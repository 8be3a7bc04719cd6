"""List the samples of sources without reading them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harmonizer.data.convert.sources.arrays import MAP_SUFFIXES, SAMPLE_SUFFIXES
from harmonizer.data.convert.sources.classes import imagenet_classes, name_classes, number_names
from harmonizer.data.convert.sources.item import Item
from harmonizer.data.convert.sources.names import make_key, walk, with_unique_keys
from harmonizer.data.convert.sources.pictures import PICTURE_SUFFIXES
from harmonizer.data.convert.sources.table import read_table
from harmonizer.data.tfrecord import RecordError, index_records

TFRECORD_SUFFIX = re.compile(r"\.tfrecords?$", re.IGNORECASE)
TFRECORD_OF_MANY = re.compile(r"-\d{5}-of-\d{5}$")
TABLE = ".csv"
SPLITS = {"train", "val", "valid", "validation", "test"}


@dataclass
class Found:
    """Samples of all sources, in order.

    Attributes:
        items: What can be read.
        problems: What cannot, as seen so far.
        classes: Class names.
    """

    items: list[Item] = field(default_factory=list)
    problems: list[RecordError] = field(default_factory=list)
    classes: tuple[str, ...] = ()


def find(
    sources: Sequence[Path],
    *,
    classes: tuple[str, ...] | None = None,
    maps: Path | None = None,
    allow_missing_map: bool = False,
) -> Found:
    """List all samples.

    Args:
        sources: Files and folders.
        classes: Class names; None takes them from the sources.
        maps: Folder with one map file an image, under the same relative name; for folders of images.
        allow_missing_map: Take samples without a map, where the source has maps.

    Raises:
        FileNotFoundError: A source does not exist.
        ValueError: A source is of no known kind, or two name different classes.
    """
    found = Found()
    for source in sources:
        items, problems, names = _find_source(source, classes, maps)
        if found.classes not in ((), names):
            raise ValueError(f"{source} has other classes than the sources before it; name all of them with --classes")
        found.classes = names
        found.items += [item._replace(wants_map=item.wants_map and not allow_missing_map) for item in items]
        found.problems += problems
    found.items = list(with_unique_keys(found.items))
    return found


def _find_source(
    source: Path, classes: tuple[str, ...] | None, maps: Path | None
) -> tuple[list[Item], list[RecordError], tuple[str, ...]]:
    """List one source's samples, problems and classes."""
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source}")
    files = list(walk(source)) if source.is_dir() else [source]
    kinds = {
        kind: [file for file in files if _kind(file) == kind] for kind in ("TFRecord", "array", "picture", "table")
    }
    kinds = {kind: members for kind, members in kinds.items() if members}
    if len(kinds) != 1:
        listed = " and ".join(f"{len(members)} {kind} files" for kind, members in kinds.items()) or "none"
        raise ValueError(f"{source}: expected files of one kind (TFRecord, NPZ, .pth, pictures, CSV), got {listed}")
    kind, members = kinds.popitem()
    if kind == "picture":
        if not source.is_dir():
            raise ValueError(f"{source} is a lone picture without a label; give its folder, or a CSV table")
        items, names = _find_pictures(source, members, classes, maps)
        return items, [], names
    if maps is not None:
        raise ValueError(f"--maps goes with folders of pictures; {source} holds {kind} files")
    if kind == "table":
        if len(members) > 1:
            raise ValueError(f"{source} holds {len(members)} tables; give them one by one")
        return read_table(members[0], classes)
    names = classes or imagenet_classes()
    if kind == "array":
        relative = [file.relative_to(source) if source.is_dir() else Path(file.name) for file in members]
        pairs = zip(members, relative, strict=True)
        return [Item("arrays", make_key(name), str(file), wants_map=True) for file, name in pairs], [], names
    found = Found()
    for file in members:
        _index(file, found)
    return found.items, found.problems, names


def _index(file: Path, found: Found) -> None:
    """List a TFRecord file's records, as far as they can be found."""
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


def _find_pictures(
    folder: Path, files: list[Path], classes: tuple[str, ...] | None, maps: Path | None
) -> tuple[list[Item], tuple[str, ...]]:
    """List the pictures of a folder with one subfolder a class."""
    relative = [file.relative_to(folder) for file in files]
    loose = next((name for name in relative if len(name.parts) < 2), None)
    if loose is not None:
        raise ValueError(f"{folder / loose} is in no class folder; expected FOLDER/CLASS/IMAGE, or a CSV with labels")
    found = {name.parts[0] for name in relative}
    if found <= SPLITS:
        raise ValueError(f"{folder} holds the splits {', '.join(sorted(found))}; convert each into a folder of its own")
    names = classes or name_classes(sorted(found))
    numbers = number_names(names)
    unknown = sorted(found - numbers.keys())
    if unknown:
        raise ValueError(f"{folder / unknown[0]} is none of the {len(names)} classes of --classes")
    by_name: dict[Path, str] = {}
    if maps is not None:
        if not maps.is_dir():
            raise FileNotFoundError(f"--maps {maps}: no such folder")
        mapped = (file for file in walk(maps) if file.suffix.lower() in MAP_SUFFIXES)
        by_name = {file.relative_to(maps).with_suffix(""): str(file) for file in mapped}
    items = [
        Item(
            "picture",
            make_key(name),
            str(file),
            label=numbers[name.parts[0]],
            human=by_name.get(name.with_suffix("")),
            wants_map=maps is not None,
        )
        for file, name in zip(files, relative, strict=True)
    ]
    return items, names


def _kind(file: Path) -> str:
    """Tell a file's kind by its name."""
    suffix = file.suffix.lower()
    if TFRECORD_SUFFIX.search(file.name) or TFRECORD_OF_MANY.search(file.name):
        return "TFRecord"
    if suffix in SAMPLE_SUFFIXES:
        return "array"
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    return "table" if suffix == TABLE else "other"
