"""Datasets of Hugging Face's ``datasets``, an optional package, with columns image, label and optionally map."""

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harmonizer.data.class_names import describe_order, name_classes, number_names
from harmonizer.data.convert.readers.arrays import decode_map, to_map, to_pixels
from harmonizer.data.convert.readers.record import Found, Item, Record
from harmonizer.untrusted import parse_json, safe_name, shortened

COLUMNS = ("image", "label", "map")
SAVED = ("state.json", "dataset_info.json")  # what Dataset.save_to_disk writes next to its Arrow files


def is_dataset(value: object) -> bool:
    """Return whether a value is a dataset or a dictionary of them, without importing the package."""
    return type(value).__module__.partition(".")[0] == "datasets"


def is_saved_dataset(folder: Path) -> bool:
    """Return whether a folder holds one split that ``save_to_disk`` wrote."""
    return all((folder / name).is_file() for name in SAVED)


def split_of(dataset: Any, names: Sequence[str]) -> "DatasetSplit":  # noqa: ANN401 - of an optional package
    """Return a split of a dictionary of datasets, or the dataset itself.

    Raises:
        ValueError: The split does not exist.
    """
    if not isinstance(dataset, Mapping):
        return DatasetSplit(dataset, "dataset")
    name = next((name for name in names if name in dataset), None)
    if name is None:
        raise ValueError(f"expected a split named {names[0]}, got {', '.join(dataset)}; try one of them, dataset[NAME]")
    return DatasetSplit(dataset[name], f"dataset[{name!r}]")


def open_saved(folder: Path) -> "DatasetSplit":
    """Open a split that ``save_to_disk`` wrote.

    Raises:
        ImportError: The package is not installed.
        ValueError: The folder is damaged, or names files outside it.
    """
    try:
        load = importlib.import_module("datasets").load_from_disk
    except ImportError:
        raise ImportError(
            f"{folder} is a Hugging Face dataset; install the package: pip install 'neural-harmonizer[datasets]'"
        ) from None
    try:
        state = parse_json((folder / SAVED[0]).read_bytes())
        for entry in [*state["_data_files"], *(state.get("_indices_data_files") or ())]:
            safe_name(entry["filename"])
        return DatasetSplit(load(str(folder)), str(folder), from_disk=True)
    except Exception as error:  # damaged files make pyarrow and datasets raise almost anything
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise ValueError(
            f"{folder}: expected a folder written by Dataset.save_to_disk, got a damaged one ({reason})"
        ) from None


class DatasetSplit:
    """Read the samples of a dataset.

    Args:
        dataset: A ``datasets.Dataset``.
        name: Name for messages and results.
        from_disk: Whether it comes from a file, which must not name other files of this machine.

    Raises:
        TypeError: The dataset has no random access.
        ValueError: A column is missing.
    """

    def __init__(self, dataset: Any, name: str, *, from_disk: bool = False) -> None:  # noqa: ANN401
        if not hasattr(dataset, "cast_column") or not hasattr(dataset, "__len__"):
            raise TypeError(
                f"expected a datasets.Dataset, got {type(dataset).__name__}; try load_dataset without streaming"
            )
        if missing := [column for column in COLUMNS[:2] if column not in dataset.column_names]:
            raise ValueError(
                f"{name}: expected columns {', '.join(COLUMNS)}; {' and '.join(missing)} not among "
                f"{', '.join(dataset.column_names)}; try rename_column"
            )
        self.name, self.from_disk = name, from_disk
        self.has_maps = "map" in dataset.column_names
        self.label = dataset.features["label"]
        for column in ("image", "map")[: 1 + self.has_maps]:
            if type(dataset.features[column]).__name__ == "Image":  # kept encoded; the loader decodes it
                dataset = dataset.cast_column(column, type(dataset.features[column])(decode=False))
        self.dataset = dataset.with_format(None).select_columns(COLUMNS[: 2 + self.has_maps])

    def __str__(self) -> str:
        return self.name

    def find(self, classes: tuple[str, ...] | None) -> Found:
        """List the samples (:func:`harmonizer.data.convert.readers.discover.find`)."""
        labels = self.dataset["label"][:]
        names = getattr(self.label, "names", None)
        given = classes is not None
        if classes is None and names:
            classes = tuple(names)
        if classes is None:
            if any(re.fullmatch(r"-?\d+", str(label)) for label in labels):
                raise ValueError(f"{self}: labels are numbers; name them with --classes (a number, imagenet, a file)")
            classes = name_classes(sorted({str(label) for label in labels}))
        named = names is not None and not given
        order = f"{len(classes)} classes as the dataset names them" if named else describe_order(classes, given=given)
        numbers = number_names(classes)
        found = Found(classes=classes, notes=[order])
        for number, label in enumerate(labels):
            text = names[label] if names and isinstance(label, int) and 0 <= label < len(names) else label
            item = Item("image", f"{number:06d}", self.name, number, label=label if isinstance(label, int) else None)
            if isinstance(text, str):
                if text not in numbers:
                    found.problems.append(
                        item.error(f"label {shortened(text)} is not one of the {len(classes)} classes")
                    )
                    continue
                item = item._replace(label=numbers[text])
            found.items.append(item)
        return found

    def read(self, item: Item) -> Record:
        """Read a sample.

        Raises:
            RecordError: The sample cannot be used.
        """
        row = self.dataset[item.record]
        if item.label is None:
            raise item.error(f"label is {shortened(row['label'])}, expected an integer or a class name")
        content = row.get("map")
        human, image = None, self._content(row["image"], item, "image")
        if content is not None:
            found = self._content(content, item, "map")
            human = decode_map(found, item) if isinstance(found, bytes) else to_map(found, item)
        return Record(image if isinstance(image, bytes) else to_pixels(image, item), item.label, human)

    def _content(self, content: object, item: Item, column: str) -> Any:  # noqa: ANN401 - bytes or an array
        """Return an encoded image, or an array of nested lists; integers from 0 to 255 are 8-bit pixels."""
        if isinstance(content, Mapping) and content.keys() == {"bytes", "path"}:
            if content["bytes"] is None and not self.from_disk and content["path"]:
                return item.read(Path(content["path"]), content["path"])
            content = content["bytes"]
        if isinstance(content, bytes):
            return content
        if content is None or isinstance(content, str | Mapping):
            raise item.error(f"{column} is {shortened(content)}, expected an image or an array; try cast_column")
        try:
            array = np.asarray(content)
        except ValueError as error:
            raise item.error(f"{column} is not an array ({error})") from None
        whole = array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255
        return array.astype(np.uint8) if whole else array
