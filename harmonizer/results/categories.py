"""Names of classes, and their categories: animate or inanimate, the boxes around the images of the grid.

By default, the animate classes of ImageNet are the first 398 in its order, those below the synset ``animal.n.01``
(n00015388) of WordNet 3.0; those of the demo data are butterfly and fish. Plants and people are not animate.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from harmonizer.results.cells import read_table

ANIMATE, INANIMATE = "animate", "inanimate"
ANIMALS = 398  # number of animate classes of ImageNet, which come first
WORDNET_ID = re.compile(r"n\d{8}\b")
DEMO = ("butterfly", "fish", "heart", "key", "leaf", "moon", "mug", "mushroom", "star", "umbrella")  # by label
COLUMNS = ("class", "category")


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 ImageNet classes: WordNet identifier and first word.

    >>> imagenet_classes()[0]
    'n01440764 tench'
    """
    return tuple((files("harmonizer") / "data" / "imagenet_classes.txt").read_text("utf-8").splitlines())


@cache
def default_categories() -> Mapping[str, str]:
    """Return the category of each class of ImageNet, by identifier, and of the demo data, by name.

    >>> [default_categories()[key] for key in ("n01440764", "n02666196", "fish", "mug")]  # tench, abacus
    ['animate', 'inanimate', 'animate', 'inanimate']
    """
    identifiers = [name.split()[0] for name in imagenet_classes()]
    known = {key: ANIMATE if i < ANIMALS else INANIMATE for i, key in enumerate(identifiers)}
    return known | {name: ANIMATE if name in ("butterfly", "fish") else INANIMATE for name in DEMO}


def read_categories(path: Path | None) -> Mapping[str, str]:
    """Read a table of categories, which overrides the default ones.

    Args:
        path: CSV with the columns class (a name, or a WordNet identifier) and category (animate or inanimate).

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A column is missing, or a category is unknown; the message names the line.
    """
    if path is None:
        return default_categories()
    lines, _ = read_table(path, COLUMNS)
    for number, line in lines:
        if not line["class"] or line["category"] not in (ANIMATE, INANIMATE):
            raise ValueError(
                f"{path}, line {number}: expected a class and {ANIMATE} or {INANIMATE}, got {line['category']!r}"
            )
    return {**default_categories(), **{line["class"]: line["category"] for _, line in lines}}


def category_of(name: str, categories: Mapping[str, str]) -> str:
    """Return the category of a class, by its name or its WordNet identifier; empty if unknown."""
    return categories.get(name) or categories.get(name.split(" ")[0], "")


def class_name(label: int, data: str, classes: int) -> str:
    """Return the name of a class of a data set with ``classes`` classes; "class LABEL" if unknown.

    >>> class_name(0, "val", 1000), class_name(1, "demo", 10), class_name(7, "mine", 20)
    ('n01440764 tench', 'fish', 'class 7')
    """
    known = imagenet_classes() if classes == len(imagenet_classes()) else DEMO if data == "demo" else ()
    return known[label] if 0 <= label < len(known) else f"class {label}"


def short_name(name: str) -> str:
    """Return a class's name without its WordNet identifier.

    >>> short_name("n01440764 tench"), short_name("n01440764"), short_name("fish")
    ('tench', 'n01440764', 'fish')
    """
    return WORDNET_ID.sub("", name, count=1).strip() or name
