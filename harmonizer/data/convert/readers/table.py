"""Tables: a CSV file with a line an image."""

import csv
import re
from pathlib import Path

from harmonizer.data.class_names import name_classes, number_names
from harmonizer.data.convert.readers.names import make_key
from harmonizer.data.convert.readers.record import Item
from harmonizer.data.convert.readers.tfrecord import RecordError

COLUMNS = ("image", "label", "map")
LIKE_A_MAP = r"(^|[^a-z])(heat)?maps?([^a-z]|$)|saliency|clickme"


def read_table(path: Path, classes: tuple[str, ...] | None) -> tuple[list[Item], list[RecordError], tuple[str, ...]]:
    """List a table's samples; paths are relative to the table's folder.

    Args:
        path: CSV with a header: ``image``, ``label`` (number or class name) and, where there are maps, ``map``.
        classes: Class names; None takes them from the labels, which must then be names.

    Returns:
        Samples, problems, and class names.

    Raises:
        ValueError: A column is missing or named otherwise, or there are no class names.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not reader.fieldnames:
            return [], [RecordError(str(path), None, "the file is empty")], classes or ()
        missing = {"image", "label"} - set(reader.fieldnames)
        if missing:
            found = ", ".join(reader.fieldnames)
            raise ValueError(
                f"{path}: expected columns {', '.join(COLUMNS)}; {' and '.join(missing)} not among {found}"
            )
        has_maps = "map" in reader.fieldnames
        meant = [name for name in reader.fieldnames if re.search(LIKE_A_MAP, name, re.IGNORECASE)]
        if meant and not has_maps:
            raise ValueError(
                f"{path}: the column of human maps must be named map, not {meant[0]!r}; rename it, "
                "or remove the column where it names no maps"
            )
        rows = [(reader.line_num, {name: (row.get(name) or "").strip() for name in COLUMNS}) for row in reader]
    labels = {row["label"] for _, row in rows if row["label"]}
    if classes is None:
        if any(re.fullmatch(r"-?\d+", label) for label in labels):
            raise ValueError(f"{path}: labels are numbers; say of how many with --classes (a number, imagenet, a file)")
        classes = name_classes(sorted(labels))
    numbers = number_names(classes)
    for label in labels:
        if re.fullmatch(r"\d+", label) and numbers.get(label, int(label)) != int(label):
            raise ValueError(
                f"{path}: label {label} could be the class of that name, which is number {numbers[label]}, or of that "
                "number; order the numbers in the file of --classes"
            )
    items, problems = [], []
    for line, row in rows:
        try:
            label = _label(row["label"], numbers, len(classes))
            if not row["image"]:
                raise ValueError("has no image path")
        except ValueError as error:
            problems.append(RecordError(str(path), line, str(error)))
            continue
        human = str(path.parent / row["map"]) if row["map"] else None
        key, image = make_key(Path(row["image"])), str(path.parent / row["image"])
        items.append(Item("image", key, str(path), line, image=image, label=label, human=human, wants_map=has_maps))
    return items, problems, classes


def _label(text: str, numbers: dict[str, int], classes: int) -> int:
    """Return the number of a label, given as number or name."""
    if not text:
        raise ValueError("has no label")
    if re.fullmatch(r"-?\d+", text):
        if not 0 <= int(text) < classes:
            raise ValueError(f"label {text} is out of range; there are {classes} classes")
        return int(text)
    if text not in numbers:
        raise ValueError(f"label {text!r} is none of the {classes} classes")
    return numbers[text]
