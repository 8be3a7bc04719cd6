"""Images in a folder with one subfolder per class, and their maps in another folder or in an HDF5 file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from harmonizer.data.class_names import name_classes, number_folders
from harmonizer.data.convert.readers.arrays import MAP_SUFFIXES
from harmonizer.data.convert.readers.hdf5 import SUFFIXES as HDF5_SUFFIXES
from harmonizer.data.convert.readers.hdf5 import list_maps
from harmonizer.data.convert.readers.images import IMAGE_SUFFIXES
from harmonizer.data.convert.readers.names import make_key
from harmonizer.data.convert.readers.record import Found, Item
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.data.convert.readers.walk import walk

SPLITS = {"train", "val", "valid", "validation", "test"}


class MapFile(NamedTuple):
    """Location of a map: a file, and the map's name in it if the file holds several."""

    path: str
    member: str | None = None


@dataclass
class MapFiles:
    """Maps by the names of their images."""

    by_name: dict[str, MapFile] = field(default_factory=dict)  # by `CLASS/IMAGE` without suffix
    # by `CLASS_IMAGE`, with and without the image's suffix, as ClickMe v2 names files
    by_flat_name: dict[str, MapFile] = field(default_factory=dict)
    problems: list[RecordError] = field(default_factory=list)  # unusable files

    def match(self, images: Sequence[Path]) -> list[MapFile | None]:
        """Return the map of each image, ``CLASS/IMAGE.SUFFIX``.

        Raises:
            ValueError: Two images have the flat name of one map.
        """
        matched: list[MapFile | None] = []
        owners: dict[MapFile, Path] = {}
        for image in images:
            found = self.by_name.get(image.with_suffix("").as_posix())
            for flat in ("_".join(image.parts), "_".join(image.with_suffix("").parts)):
                if found is None and (found := self.by_flat_name.get(flat)) is not None:
                    other = owners.setdefault(found, image)
                    if other != image:
                        raise ValueError(f"{found.path} could be the map of {other} or of {image}; name it CLASS/IMAGE")
            matched.append(found)
        return matched

    def unused(self, matched: Sequence[MapFile | None]) -> list[MapFile]:
        """Return the maps that belong to no image."""
        used = set(matched)
        return [one for one in dict.fromkeys([*self.by_name.values(), *self.by_flat_name.values()]) if one not in used]

    def add(self, name: PurePosixPath, one: MapFile) -> None:
        """Add a map under its image's name, with or without suffix; a name without a folder is a flat name."""
        names = {str(name), str(name.with_suffix(""))} if name.suffix.lower() in IMAGE_SUFFIXES else {str(name)}
        known = self.by_name if len(name.parts) > 1 else self.by_flat_name
        for text in sorted(names):
            other = known.setdefault(text, one)
            if other != one:
                raise ValueError(f"{_name(other)} and {_name(one)} are maps of one image; remove one of them")


def find_images(folder: Path, files: list[Path], classes: tuple[str, ...] | None, maps: Path | None) -> Found:
    """List the images of a folder with one subfolder per class.

    Args:
        folder: Source folder.
        files: Its images.
        classes: Class names; None takes the names of the subfolders.
        maps: Location of the maps (:func:`find_maps`).

    Raises:
        FileNotFoundError: The folder of maps does not exist.
        ValueError: An image is not in a class folder, its class is unknown, or it has two maps.
    """
    relative = [file.relative_to(folder) for file in files]
    loose = next((name for name in relative if len(name.parts) < 2), None)
    if loose is not None:
        raise ValueError(f"{folder / loose} is not in a class folder, expected FOLDER/CLASS/IMAGE or a CSV with labels")
    found = {name.parts[0] for name in relative}
    if found <= SPLITS:
        raise ValueError(
            f"{folder} holds the splits {', '.join(sorted(found))}; convert each split into its own folder"
        )
    names = classes or name_classes(sorted(found))
    try:
        numbers = number_folders(found, names)
    except ValueError as error:
        raise ValueError(f"{folder}/{error}") from None
    empty = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    empty, notes = [path for path in empty if path.name not in found], []
    if empty:
        notes.append(f"{folder}: {len(empty)} folders without images are not counted as classes; first {empty[0]}")
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


def find_maps(maps: Path) -> MapFiles:
    """List the maps of a folder, or of an HDF5 file.

    Args:
        maps: Folder of files such as ``CLASS/IMAGE.npy`` or ``CLASS_IMAGE.JPEG.npy``, or of HDF5 files of ClickMe v2;
            or one such HDF5 file.

    Raises:
        FileNotFoundError: The folder or file does not exist.
        ImportError: h5py is needed and is not installed.
        ValueError: Two maps belong to one image.
    """
    found = MapFiles()
    if maps.is_file() and maps.suffix.lower() in HDF5_SUFFIXES:
        _add_hdf5(found, maps)
        return found
    if not maps.is_dir():
        raise FileNotFoundError(f"--maps {maps}: no such folder or HDF5 file")
    for path, problem, is_file, hidden in walk(maps):
        is_map = path.suffix.lower() in (*MAP_SUFFIXES, *HDF5_SUFFIXES)
        if hidden or not (is_map or problem):
            continue
        if problem is not None:
            found.problems += [RecordError(str(path), None, problem)] if is_map or not is_file else []
        elif path.suffix.lower() in HDF5_SUFFIXES:
            _add_hdf5(found, path)
        else:
            found.add(PurePosixPath(path.relative_to(maps).with_suffix("")), MapFile(str(path)))
    return found


def _add_hdf5(found: MapFiles, path: Path) -> None:
    """Add the maps of an HDF5 file; its paths are only compared with the names of images, never followed."""
    for name, original in list_maps(path):
        found.add(PurePosixPath(*PurePosixPath(original).parts[-2:]), MapFile(str(path), name))


def _name(one: MapFile) -> str:
    """Return the name of a map for messages."""
    return one.path if one.member is None else f"{one.member} in {one.path}"
