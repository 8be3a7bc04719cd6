"""The outcome of an attack on one image."""

from enum import IntEnum


class Status(IntEnum):
    """The outcome of an attack on one image; files contain its lower-case name, arrays its code.

    Attributes:
        WRONG: Misclassified before any attack.
        CENSORED: Correct, and never fooled within ``eps_max``.
        FOUND: Correct, and fooled within ``eps_max``.
        FAILED: Not fooled, because the attack had no usable gradient or met logits that are not finite, on the clean
            image or later; the radius is unknown.

    >>> Status.FOUND, Status["found".upper()].word
    (<Status.FOUND: 2>, 'found')
    """

    WRONG = 0
    CENSORED = 1
    FOUND = 2
    FAILED = 3

    @property
    def word(self) -> str:
        """The name in files."""
        return self.name.lower()


STATUSES = tuple(status.word for status in Status)  # by code
