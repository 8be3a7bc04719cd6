"""Images in a folder with one subfolder per class, and their maps in another place."""

from pathlib import Path

from harmonizer.data.class_names import name_classes, number_folders
from harmonizer.data.convert.readers.map_files import MapFiles, find_maps
from harmonizer.data.convert.readers.names import make_key
from harmonizer.data.convert.readers.record import Found, Item

SPLITS = {"train", "val", "valid", "validation", "test"}


def find_images(folder: Path, files: list[Path], classes: tuple[str, ...] | None, maps: Path | None) -> Found:
    """List the images of a folder with one subfolder per class.

    Args:
        folder: The source.
        files: Its images.
        classes: Class names; None takes the subfolders'.
        maps: Where their maps are (:func:`find_maps`).

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
    empty, notes = [path for path in empty if path.name not in found], []
    if empty:
        notes.append(f"{folder}: {len(empty)} folders hold no image and are no classes; first {empty[0]}")
    of_maps = MapFiles() if maps is None else find_maps(maps)
    matched = of_maps.match(relative)
    items = [
        Item(
            "image",
            make_key(name),
            str(file),
            label=numbers[name.parts[0]],
            human=None if human is None else human.path,
            member=None if human is None else human.member,
            wants_map=maps is not None,
        )
        for file, name, human in zip(files, relative, matched, strict=True)
    ]
    if unused := of_maps.unused(matched):
        notes.append(f"{maps}: {len(unused)} maps belong to no image; first {unused[0].member or unused[0].path}")
    return Found(items, of_maps.problems, names, notes)
