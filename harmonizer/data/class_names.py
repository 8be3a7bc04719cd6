"""Names and order of classes."""

import itertools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from harmonizer.data.convert.readers.names import natural
from harmonizer.results.categories import imagenet_classes as imagenet_classes

WORDNET_ID = re.compile(r"n\d{8}")
NUMBER = re.compile(r"[0-9]+")


def parse_classes(argument: str) -> tuple[str, ...]:
    """Parse the option: ``imagenet``, a number of classes, or a text file with one name per line.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is empty or names a class twice.
    """
    if argument == "imagenet":
        return imagenet_classes()
    if argument.isdecimal() and int(argument) > 0:
        return tuple(str(number) for number in range(int(argument)))
    path = Path(argument)
    if not path.is_file():
        raise FileNotFoundError(f"--classes {argument}: expected 'imagenet', a number, or a file with a name per line")
    names = tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{path}: expected different class names, one per line, got {len(names)} lines")
    return names


def name_classes(found: Sequence[str]) -> tuple[str, ...]:
    """Return the classes for a set of names, sorted; the 1000 identifiers of ImageNet become its class names.

    >>> name_classes(["10", "9"])
    ('9', '10')
    """
    ordered = tuple(sorted(sorted(found), key=int) if _are_numbers(found) else sorted(found))
    complete = len(ordered) == 1000 and all(WORDNET_ID.fullmatch(name) for name in ordered)
    return imagenet_classes() if complete and number_names(imagenet_classes()).keys() >= set(ordered) else ordered


def number_names(classes: Sequence[str]) -> dict[str, int]:
    """Return the label of each name, and of its WordNet identifier alone."""
    numbers = {name: label for label, name in enumerate(classes)}
    for label, name in enumerate(classes):
        identifier = name.partition(" ")[0]
        if WORDNET_ID.fullmatch(identifier):
            numbers[identifier] = label
    return numbers


def number_folders(found: Collection[str], classes: Sequence[str]) -> dict[str, int]:
    """Return the label of each class folder, by its name, or by its number if that is unambiguous.

    Raises:
        ValueError: A folder is not one of the classes.
    """
    numbers = number_names(classes)
    unknown = sorted(found - numbers.keys(), key=natural)
    if unknown and _are_numbers(found) and len(set(map(int, found))) == len(found):
        by_number = {name: int(name) for name in found if int(name) < len(classes)}
        if len(by_number) == len(found) and all(numbers.get(name, label) == label for name, label in by_number.items()):
            return by_number
    if unknown:
        raise ValueError(f"{unknown[0]} is not one of the {len(classes)} classes of --classes")
    return {name: numbers[name] for name in found}


def describe_order(classes: Sequence[str], *, given: bool) -> str:
    """Describe the order of the classes, with the option that gives another order.

    Args:
        classes: Class names.
        given: Whether they come from ``--classes``.

    >>> describe_order(["class1", "class10", "class2"], given=False)
    '3 classes in alphabetical order, class10 before class2; --classes FILE gives another order'
    """
    other = "--classes FILE gives another order"
    count = f"{len(classes)} class{'es' if len(classes) > 1 else ''}"
    if tuple(classes) == imagenet_classes():
        return "1000 classes in ImageNet's order"
    if given:
        return f"{count} in the order of --classes"
    if all(WORDNET_ID.fullmatch(name) for name in classes):
        return f"{len(classes)} of ImageNet's classes, labels from 0; --classes imagenet gives them ImageNet's labels"
    if _are_numbers(classes):
        first = next((label for label, name in enumerate(classes) if int(name) != label), None)
        if first is None:
            imagenet = "; --classes imagenet names them, if the numbers are ImageNet's" if len(classes) == 1000 else ""
            return f"{count} in the order of their numbers, which are the labels{imagenet}"
        return (
            f"{count} in the order of their numbers; labels count from 0 without gaps, "
            f"so {classes[first]} is label {first}; {other}"
        )
    text = f"{count} in alphabetical order"
    pairs = list(itertools.pairwise(classes))
    for inverted in ([natural(a) > natural(b) for a, b in pairs], [a.casefold() > b.casefold() for a, b in pairs]):
        swapped = next(itertools.compress(pairs, inverted), None)
        if swapped is not None:
            return f"{text}, {swapped[0]} before {swapped[1]}; {other}"
    return text


def check_imagenet_order(classes: Sequence[str]) -> str | None:
    """Check by their names that 1000 classes are in ImageNet's order.

    Returns:
        A warning if the names do not confirm the order; None if they do.

    Raises:
        ValueError: The names show another order.
    """
    known = imagenet_classes()
    advice = "convert the data again with --classes imagenet"
    if _are_numbers(classes):
        swapped = next(((a, b) for a, b in itertools.pairwise(classes) if int(a) >= int(b)), None)
        if swapped is None:
            return f"the data's classes are numbers, taken for ImageNet's labels, with {classes[0]} as {known[0]!r}"
        raise ValueError(f"the data's classes are not in order: {swapped[0]} comes before {swapped[1]}; {advice}")
    places = _imagenet_places()
    found = [places.get(identifier[0] if (identifier := WORDNET_ID.search(name)) else _plain(name)) for name in classes]
    wrong = [label for label, place in enumerate(found) if place not in (label, None)]
    right = sum(place == label for label, place in enumerate(found))
    if len(wrong) > right or any(WORDNET_ID.search(classes[label]) for label in wrong):
        label = wrong[0]
        raise ValueError(
            f"the data's classes are not in ImageNet's order: label {label} is {classes[label]!r}, "
            f"ImageNet's is {known[label]!r}; {advice}"
        )
    if right > len(classes) / 2:
        return None
    return f"only {right} of the data's {len(classes)} class names are known; their labels are taken for ImageNet's"


@cache
def _imagenet_places() -> dict[str, int]:
    """Return the label of each identifier, and of each word that names only one class."""
    pairs = [name.split(" ", 1) for name in imagenet_classes()]
    words = Counter(_plain(word) for _, word in pairs)
    places = {identifier: label for label, (identifier, _) in enumerate(pairs)}
    return places | {_plain(word): label for label, (_, word) in enumerate(pairs) if words[_plain(word)] == 1}


def _plain(name: str) -> str:
    """Normalise a name for comparison: case and punctuation differ between lists."""
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def _are_numbers(names: Collection[str]) -> bool:
    """Return whether all names are integers."""
    return all(NUMBER.fullmatch(name) for name in names)
