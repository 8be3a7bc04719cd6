"""One sample of a source: its location and its content."""

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
    """Location of a sample; small, because there can be millions."""

    kind: Kind  # selects the reader
    key: str  # name in the shards, unique among all sources and valid as a file name
    file: str  # file named in messages
    record: int | None = None  # number in the file, or line of a table; None if the file is one sample
    extent: Extent | None = None  # position of a TFRecord's payload
    image: str | None = None  # path of the image if it is not `file`
    label: int | None = None  # None if the sample itself holds it
    human: str | None = None  # path of the map if it is a separate file
    wants_map: bool = False  # whether a missing map is an error
    trials: bytes = b""  # for raw clicks, the byte offsets of the lines of its trials in the file, int64 each
    member: str | None = None  # name of the map in `human` if that holds the maps of many images

    def error(self, reason: str) -> RecordError:
        """Return an error that names this sample."""
        return RecordError(self.file, self.record, reason)

    def read(self, path: Path, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            RecordError: The file cannot be read (:func:`check_file`); the message calls it ``name``.
        """
        try:
            check_file(path)
            return path.read_bytes()
        except (OSError, ValueError) as error:
            raise self.error(f"cannot read {name} ({getattr(error, 'strerror', error)})") from None

    def check_map(self, human: "HumanMap | None") -> None:
        """Check that a required map is present."""
        if human is None and self.wants_map:
            raise self.error("heatmap is missing; --allow-missing-map accepts samples without one")


@dataclass
class HumanMap:
    """A human map before its preparation."""

    values: Values  # (H,W) >= 0; the mean of a stack
    full_scale: float  # value that becomes white, such as 255 for 8-bit maps
    stack: Values | None = None  # (P,H,W) single maps, if there are several
    meaning: Stack | None = None  # meaning of the stack, if the file gives it
    clicks: Clicks | None = None  # clicks from which the map was made, if known

    def participants(self, item: Item, said: Stack | None) -> Values | None:
        """Return the maps of single participants (P,H,W), if there are several; ``said`` is the option ``--stack``.

        Raises:
            RecordError: The meaning of the stack is unknown, or file and option disagree.
        """
        if self.stack is None:
            return None
        if self.meaning is None and said is None:
            raise item.error(
                f"the heatmap has shape {self.stack.shape}, and its file does not say what the {len(self.stack)} maps "
                "are; try --stack participants (one per person), thresholds (click-count levels of the same people) or "
                "mean"
            )
        if None not in (self.meaning, said) and self.meaning != said:
            raise item.error(f"expected a stack of {self.meaning}, as the file says, got --stack {said}")
        return self.stack if (self.meaning or said) == "participants" else None


@dataclass
class Found:
    """Samples of sources, in order."""

    items: list[Item] = field(default_factory=list)
    problems: list[RecordError] = field(default_factory=list)  # samples already known to be unusable
    classes: tuple[str, ...] = ()  # class names
    notes: list[str] = field(default_factory=list)  # messages on the order of the classes and on ignored files
    # counts of the trials of raw clicks that the options exclude, with the reason; these are not problems
    filtered: list[RecordError] = field(default_factory=list)


@dataclass
class Record:
    """Content of a sample; the image is encoded bytes, or pixels (H,W,3)."""

    image: bytes | Pixels
    label: int
    human: HumanMap | None = None
    notes: dict[str, Any] = field(default_factory=dict)
