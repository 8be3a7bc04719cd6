"""One sample of a source: where it is, and what it holds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonizer.data.clicks import Clicks
from harmonizer.data.convert.readers.files import check_file
from harmonizer.data.convert.readers.tfrecord import Extent, RecordError

Kind = Literal["example", "image", "arrays", "clicks"]
Stack = Literal["participants", "thresholds", "mean"]
Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]


class Item(NamedTuple):
    """Where a sample is; small, because there can be millions."""

    kind: Kind  # which reader it takes
    key: str  # its name in the shards, unique among all sources and fit for a file name
    file: str  # the file that messages name
    record: int | None = None  # its number in the file (of a table: the line), where there are several
    extent: Extent | None = None  # of a TFRecord's payload
    image: str | None = None  # path of the image where `file` is not it
    label: int | None = None  # where the sample itself does not say
    human: str | None = None  # path of its map, where that is a file of its own
    wants_map: bool = False  # a sample without a map is an error
    trials: bytes = b""  # of raw clicks: where the lines of its trials begin in the file, int64 each
    member: str | None = None  # name of the map in that file, where it holds those of many

    def error(self, reason: str) -> RecordError:
        """Return an error that names this sample."""
        return RecordError(self.file, self.record, reason)

    def read(self, path: Path, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            RecordError: It cannot be read (:func:`check_file`); the message calls it ``name``.
        """
        try:
            check_file(path)
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise self.error(f"cannot read {name} ({getattr(error, 'strerror', error)})") from None

    def check_map(self, human: "HumanMap | None") -> None:
        """Refuse a sample without a map, unless that is allowed."""
        if human is None and self.wants_map:
            raise self.error("heatmap is missing; --allow-missing-map takes such samples without one")


@dataclass
class HumanMap:
    """A human map before its preparation."""

    values: Values  # (H,W) >= 0; the mean where there are several
    full_scale: float  # the value that becomes white: 255 for 8-bit maps, for instance
    stack: Values | None = None  # (P,H,W), the single maps, where there are several
    meaning: Stack | None = None  # what the stack is of, where the file says so
    clicks: Clicks | None = None  # the clicks that the map is the mean of, where they are known

    def participants(self, item: Item, said: Stack | None) -> Values | None:
        """Return the maps of single participants (P,H,W), where there are several; ``said`` is the user's word.

        Raises:
            RecordError: Nothing tells what the stack is of, or file and user say different things.
        """
        if self.stack is None:
            return None
        if self.meaning is None and said is None:
            raise item.error(
                f"the heatmap has shape {self.stack.shape}: expected to know what the {len(self.stack)} maps are; try "
                "--stack participants (one per person), thresholds (click-count levels of the same people) or mean"
            )
        if None not in (self.meaning, said) and self.meaning != said:
            raise item.error(f"the file says that its stack is of {self.meaning}, got --stack {said}")
        return self.stack if (self.meaning or said) == "participants" else None


@dataclass
class Found:
    """Samples of sources, in order."""

    items: list[Item] = field(default_factory=list)  # what can be read
    problems: list[RecordError] = field(default_factory=list)  # what cannot, as seen so far
    classes: tuple[str, ...] = ()  # class names
    notes: list[str] = field(default_factory=list)  # the order of the classes and what was passed over, in words
    # trials of raw clicks that do not count, with how many and why; they are no problems
    filtered: list[RecordError] = field(default_factory=list)


@dataclass
class Record:
    """A sample as read: the image is encoded bytes, or pixels (H,W,3)."""

    image: bytes | Pixels
    label: int
    human: HumanMap | None = None
    notes: dict[str, Any] = field(default_factory=dict)
