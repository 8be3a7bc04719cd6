"""The decision that an attack has to change: the class, or whether the image shows something animate."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from harmonizer.attacks import Decision
from harmonizer.results.categories import ANIMATE, INANIMATE, category_of, imagenet_classes, read_categories

CLASSES = "classes"
DECISIONS = (CLASSES, ANIMATE)


def protocol_name(attack: str, decision: str) -> str:
    """Return the report's name of an attack on a decision.

    >>> protocol_name("ddn", "classes"), protocol_name("feng2025", "animate")
    ('ddn', 'feng2025, decision animate')
    """
    return attack if decision == CLASSES else f"{attack}, decision {decision}"


def check_decision(name: str) -> None:
    """Check the name of a decision."""
    if name not in DECISIONS:
        raise ValueError(f"expected decision {' or '.join(DECISIONS)}, got {name!r}")


def decision_of(name: str, classes: Sequence[str], categories: str | Path | None = None) -> Decision | None:
    """Return a decision between animate and inanimate, in this order; None decides between the classes.

    Args:
        name: One of ``DECISIONS``.
        classes: Class names of the data. A thousand unknown names are taken as ImageNet's, in its order.
        categories: Table of more categories; see :func:`harmonizer.results.categories.read_categories`.

    Raises:
        FileNotFoundError: The table does not exist.
        ValueError: The decision is unknown, or a class has no category.

    Reference:
        Feng, Linsley et al. 2025, code: classes 0 to 397 of ImageNet are animate, 398 to 999 are not.

    >>> decision_of("animate", ("mug", "fish", "star")).groups
    (1, 0, 1)
    """
    check_decision(name)
    if name == CLASSES:
        return None
    known = read_categories(None if categories is None else Path(categories))
    found = [category_of(each, known) for each in classes]
    if not any(found) and len(classes) == len(imagenet_classes()):
        found = [category_of(each, known) for each in imagenet_classes()]
    if missing := [each for each, category in zip(classes, found, strict=True) if not category]:
        raise ValueError(
            f"expected a category of each class for decision={name}, got none of {missing[0]!r} and "
            f"{len(missing) - 1} more; try categories=FILE.csv, with columns class and category "
            f"({ANIMATE} or {INANIMATE})"
        )
    return Decision(name, tuple((ANIMATE, INANIMATE).index(category) for category in found))


def decision_digest(decision: Decision) -> str:
    """Return the sha256 of a grouping of classes."""
    return hashlib.sha256(repr(decision.groups).encode()).hexdigest()
