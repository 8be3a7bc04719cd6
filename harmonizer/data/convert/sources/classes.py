"""Which classes there are, and what they are called."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

WORDNET_ID = re.compile(r"n\d{8}")


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 ImageNet classes: WordNet identifier and first word.

    >>> imagenet_classes()[0]
    'n01440764 tench'
    """
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text("utf-8").splitlines())


def parse_classes(argument: str) -> tuple[str, ...]:
    """Read the option: ``imagenet``, a number of classes, or a text file with a name a line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is empty or names a class twice.
    """
    if argument == "imagenet":
        return imagenet_classes()
    if argument.isdecimal() and int(argument) > 0:
        return tuple(str(number) for number in range(int(argument)))
    path = Path(argument)
    if not path.is_file():
        raise FileNotFoundError(f"--classes {argument}: expected 'imagenet', a number, or a file with a name a line")
    names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path}: expected class names, one a line, each once; got {len(names)} lines")
    return names


def name_classes(found: Sequence[str]) -> tuple[str, ...]:
    """Return the classes for a set of names, sorted; all of ImageNet's identifiers get its usual names."""
    ordered = tuple(sorted(found))
    complete = len(ordered) == 1000 and all(WORDNET_ID.fullmatch(name) for name in ordered)
    return imagenet_classes() if complete and number_names(imagenet_classes()).keys() >= set(ordered) else ordered


def number_names(classes: Sequence[str]) -> dict[str, int]:
    """Return the label of each name; a WordNet identifier alone will do."""
    numbers = {name: label for label, name in enumerate(classes)}
    for label, name in enumerate(classes):
        identifier = name.partition(" ")[0]
        if WORDNET_ID.fullmatch(identifier):
            numbers[identifier] = label
    return numbers
