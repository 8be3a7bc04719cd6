"""The outcome of an attack on one image, from the attack to the CSV file."""

from enum import IntEnum


class Status(IntEnum):
    """The outcome of an attack on one image; files hold its lower-case name, arrays its code.

    Attributes:
        WRONG: Misclassified before any attack.
        CENSORED: Correct, and never fooled within ``eps_max``.
        FOUND: Correct, and fooled within ``eps_max``.
        FAILED: Not fooled by an attack that had no usable gradient, or met logits that are not finite, be it the clean
            image's own: nothing is known of its radius.

    >>> Status.FOUND, Status["found".upper()].word
    (<Status.FOUND: 2>, 'found')
    """

    WRONG = 0
    CENSORED = 1
    FOUND = 2
    FAILED = 3

    @property
    def word(self) -> str:
        """The name that files hold."""
        return self.name.lower()


STATUSES = tuple(status.word for status in Status)  # by code
