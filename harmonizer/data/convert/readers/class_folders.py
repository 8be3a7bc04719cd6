"""Images in a folder with one subfolder per class, and their maps in a parallel folder."""

from pathlib import Path

from harmonizer.data.class_names import name_classes, number_folders
from harmonizer.data.convert.readers.arrays import MAP_SUFFIXES
from harmonizer.data.convert.readers.names import make_key
from harmonizer.data.convert.readers.record import Item
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.convert.readers.walk import walk

SPLITS = {"train", "val", "valid", "validation", "test"}


def find_images(
    folder: Path, files: list[Path], classes: tuple[str, ...] | None, maps: Path | None, notes: list[str]
) -> tuple[list[Item], list[RecordError], tuple[str, ...]]:
    """List the images of a folder with one subfolder per class.

    Args:
        folder: The source.
        files: Its images.
        classes: Class names; None takes the subfolders'.
        maps: Folder with one map file per image, under the same relative name.
        notes: What is passed over is added.

    Returns:
        Samples, problems, and class names.

    Raises:
        FileNotFoundError: There is no folder of maps.
        ValueError: An image is in no class folder, or in that of an unknown class; or it has two maps.
    """
    relative = [file.relative_to(folder) for file in files]
    loose = next((name for name in relative if len(name.parts) < 2), None)
    if loose is not None:
        raise ValueError(f"{folder / loose} is in no class folder; expected FOLDER/CLASS/IMAGE, or a CSV with labels")
    found = {name.parts[0] for name in relative}
    if found <= SPLITS:
        raise ValueError(f"{folder} holds the splits {', '.join(sorted(found))}; convert each into a folder of its own")
    names = classes or name_classes(sorted(found))
    try:
        numbers = number_folders(found, names)
    except ValueError as error:
        raise ValueError(f"{folder}/{error}") from None
    empty = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    empty = [path for path in empty if path.name not in found]
    if empty:
        notes.append(f"{folder}: {len(empty)} folders hold no image and are no classes; first {empty[0]}")
    by_name, problems = ({}, []) if maps is None else _find_maps(maps)
    items = [
        Item(
            "image",
            make_key(name),
            str(file),
            label=numbers[name.parts[0]],
            human=by_name.get(name.with_suffix("")),
            wants_map=maps is not None,
        )
        for file, name in zip(files, relative, strict=True)
    ]
    images = {name.with_suffix("") for name in relative}
    unused = [path for name, path in by_name.items() if name not in images]
    if unused:
        notes.append(f"{maps}: {len(unused)} maps belong to no image; first {unused[0]}")
    return items, problems, names


def _find_maps(maps: Path) -> tuple[dict[Path, str], list[RecordError]]:
    """Return the map files by the relative name of their image, and what in the folder cannot be taken."""
    if not maps.is_dir():
        raise FileNotFoundError(f"--maps {maps}: no such folder")
    by_name: dict[Path, str] = {}
    problems = []
    for path, problem, is_file, hidden in walk(maps):
        is_map = path.suffix.lower() in MAP_SUFFIXES
        if hidden or not (is_map or problem):
            continue
        if problem is not None:
            problems += [RecordError(str(path), None, problem)] if is_map or not is_file else []
            continue
        name = path.relative_to(maps).with_suffix("")
        if name in by_name:
            raise ValueError(f"{by_name[name]} and {path} are maps of one image; remove one of them")
        by_name[name] = str(path)
    return by_name, problems
