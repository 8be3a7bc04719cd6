"""Read a table: a CSV file with one line per image."""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from harmonizer.data.class_names import name_classes, number_names
from harmonizer.data.convert.readers.names import make_key
from harmonizer.data.convert.readers.record import Found, Item
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.untrusted import shortened

COLUMNS = ("image", "label", "map")
LIKE_A_MAP = r"(^|[^a-z])(heat)?maps?([^a-z]|$)|saliency|clickme"


def read_table(path: Path, classes: tuple[str, ...] | None) -> Found:
    """List a table's samples; paths are relative to the table's folder and may not lead out of it.

    Args:
        path: CSV with the columns ``image``, ``label`` (number or class name) and, optionally, ``map``.
        classes: Class names; None takes them from the labels, which must then be names.

    Raises:
        ValueError: A column is missing or has another name, or there are no class names.
    """
    columns, rows = _read(path)
    if not columns:
        return Found(problems=[RecordError(str(path), None, "the file is empty")], classes=classes or ())
    missing = sorted({"image", "label"} - set(columns))
    if missing:
        raise ValueError(
            f"{path}: expected columns {', '.join(COLUMNS)}; {' and '.join(missing)} not among {', '.join(columns)}"
        )
    has_maps = "map" in columns
    meant = [name for name in columns if re.search(LIKE_A_MAP, name, re.IGNORECASE)]
    if meant and not has_maps:
        raise ValueError(
            f"{path}: expected the column of human maps to be named map, got {meant[0]!r}; rename it, "
            "or remove it if it does not name maps"
        )
    labels = {row["label"] for _, row in rows if row["label"]}
    if classes is None:
        if any(re.fullmatch(r"-?\d+", label) for label in labels):
            raise ValueError(f"{path}: labels are numbers; name them with --classes (a number, imagenet, a file)")
        classes = name_classes(sorted(labels))
    numbers = number_names(classes)
    for text in labels:
        if re.fullmatch(r"\d+", text) and numbers.get(text, int(text)) != int(text):
            raise ValueError(
                f"{path}: label {text} is ambiguous: the class of that name is number {numbers[text]}; "
                "sort the numbers in the file of --classes"
            )
    items, problems = [], []
    for line, row in rows:
        try:
            label = _label(row["label"], numbers, len(classes))
            if not row["image"]:
                raise ValueError("has no image path")
            image = _inside(path.parent, row["image"])
            human = _inside(path.parent, row["map"]) if row["map"] else None
        except ValueError as error:
            problems.append(RecordError(str(path), line, str(error)))
            continue
        key = make_key(Path(row["image"]))
        items.append(Item("image", key, str(path), line, image=image, label=label, human=human, wants_map=has_maps))
    return Found(items, problems, classes)


def _read(path: Path) -> tuple[Sequence[str], list[tuple[int, dict[str, str]]]]:
    """Return a table's columns, and its rows with their line numbers.

    Raises:
        ValueError: The file is not CSV in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            return names, [
                (reader.line_num, {name: (row.get(name) or "").strip() for name in COLUMNS}) for row in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a CSV table in UTF-8, got another file ({error})") from None


def _inside(folder: Path, name: str) -> str:
    """Return the path of a file named in a table, which must not give access to files elsewhere.

    Raises:
        ValueError: The path is outside the table's folder, or a link leads out of it.
    """
    path = folder / name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(
            f"{shortened(name)} is outside the table's folder {folder}; "
            "move the table to a folder that holds all its files"
        )
    return str(path)


def _label(text: str, numbers: dict[str, int], classes: int) -> int:
    """Return the number of a label given as a number or a class name."""
    if not text:
        raise ValueError("has no label")
    if re.fullmatch(r"-?\d+", text):
        if not 0 <= int(text) < classes:
            raise ValueError(f"label {text} is out of range; there are {classes} classes")
        return int(text)
    if text not in numbers:
        raise ValueError(f"label {text!r} is not one of the {classes} classes")
    return numbers[text]
