"""Find the images of a split in a folder: shards, class folders, a table or a Hugging Face dataset."""

from pathlib import Path
from typing import Any

from harmonizer.data.adopt import has_shards
from harmonizer.data.convert.maps import PARTICIPANTS
from harmonizer.data.convert.readers.listing import file_kind
from harmonizer.data.convert.readers.walk import walk
from harmonizer.data.direct.huggingface import DatasetSplit, is_dataset, is_saved_dataset, split_of
from harmonizer.data.shards.remote import is_remote, subfolder

Location = str | Path | DatasetSplit
VALIDATION = ("val", "validation", "valid")  # names of the evaluated split


def find_split(folder: Any, split: str) -> Location:  # noqa: ANN401 - a path, an address or a dataset
    """Return the location of a split.

    Args:
        folder: Path, address, or Hugging Face dataset.
        split: ``"train"`` or ``"val"``. The latter may also be called validation or valid; a folder without splits is
            a validation split.

    Raises:
        ValueError: A dataset does not have the split.
    """
    if is_dataset(folder):
        if split == "train" and not (hasattr(folder, "keys") and "train" in folder):
            return Path("train split of the dataset")  # does not exist; an evaluation does not need it
        return split_of(folder, VALIDATION if split == "val" else (split,))
    if is_remote(folder):
        return subfolder(folder, split)
    path = Path(folder)
    for name in VALIDATION if split == "val" else (split,):
        for candidate in (path / name, path / f"{name}.csv"):
            if candidate.exists():
                return candidate
    is_split = path.suffix.lower() == ".csv" or (not (path / "train").exists() and is_direct(path))
    return path if split == "val" and is_split else path / split


def is_direct(location: Location) -> bool:
    """Return whether images at a location are read directly; if there are shards, those are read instead."""
    if isinstance(location, DatasetSplit):
        return True
    if is_remote(location):
        return False
    path = Path(location)
    if path.is_dir():
        return not has_shards(path) and (is_saved_dataset(path) or first_image(path) is not None)
    return path.is_file() and file_kind(path) == "table"


def first_image(folder: Path) -> Path | None:
    """Return the first file in a folder that the converter can read."""
    found = (entry.path for entry in walk(folder) if not entry.hidden and entry.is_file)
    return next((path for path in found if file_kind(path) != "other"), None)


def image_among_shards(location: str | Path) -> Path | None:
    """Return an image next to the shards of a folder on disk, or in a folder next to them."""
    if is_remote(location) or not Path(location).is_dir():
        return None
    for path in sorted(Path(location).iterdir()):
        if path.is_dir() and path.name != PARTICIPANTS and not path.name.startswith("."):
            path = next((entry.path for entry in walk(path) if file_kind(entry.path) == "image"), path)
        if file_kind(path) == "image":
            return path
    return None


def images_and_maps(folder: Path, maps: Path | None) -> tuple[Path, Path | None]:
    """Return the folder of images and that of their maps.

    Args:
        folder: Folder of class folders, or of exactly two folders ``images`` and ``maps`` that hold class folders.
        maps: Folder of maps, or its parent if that holds a folder of the same name as ``folder``; None looks for
            FOLDER_maps.

    Raises:
        ValueError: The folder holds only maps.
    """
    visible = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if visible == {"maps"}:
        raise ValueError(f"{folder}: expected a folder images next to the folder maps, got none")
    if visible == {"images", "maps"} and maps is None:
        return folder / "images", folder / "maps"
    if maps is None:
        sibling = folder.with_name(f"{folder.name}_maps")
        return folder, sibling if sibling.is_dir() else None
    return folder, maps / folder.name if (maps / folder.name).is_dir() else maps
