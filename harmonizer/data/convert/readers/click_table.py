"""Scan a table of raw clicks for the trials that count, in a few bytes per trial."""

import csv
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from harmonizer.data.clicks import Points
from harmonizer.data.convert.readers.tfrecord import RecordError
from harmonizer.untrusted import shortened

COLUMNS = ("image_path", "clicks", "user_id")
CATCH, MOBILE, WHEN = "user_catch_trial", "is_mobile", "timestamp"  # optional columns
NUMBER = r"-?\d{1,9}(?:\.\d{0,9})?"
CLICK = re.compile(rf"\(\s*({NUMBER})\s*,\s*({NUMBER})\s*\)")
AROUND = "[]{}, \t\r\n\"'"  # allowed between and around clicks
MOBILES = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "": False}
LONGEST_LINE = 1 << 24  # bytes


@dataclass(frozen=True)
class ClickOptions:
    """Which trials count. The defaults are those of serre-lab/human_clickme_data_processing, e6f9a76."""

    min_catch: float = 0.95  # least score of the person on catch trials (catch_thresh), if the table has it
    keep_mobile: bool = False  # keep trials on mobile devices (not filter_mobile), if the table marks them
    keep_repeats: bool = False  # keep all trials of a person on an image, not only the first (not filter_duplicates)
    min_clicks: int = 2  # fewest clicks per trial (more than min_clicks there, which is 1)
    # number of clicks per trial that are kept, from the first; None keeps all, as max_clicks of 1,000,000 does
    max_clicks: int | None = None
    min_subjects: int = 1  # fewest people per image (min_subjects: 1 for training, 5 for validation, 6 for CO3D)
    # pixels per side of the square of click coordinates (image_shape); None is the image's own size (metadata_file)
    click_size: int | None = None


MIN_SUBJECTS = {"train": 1, "val": 5, "co3d": 6}  # min_subjects in the same code's configs/


@dataclass
class Trials:
    """The trials of a table in order, after the filters that apply to single trials."""

    images: dict[str, int] = field(default_factory=dict)  # image numbers by name, `CLASS/FILE`
    people: dict[str, int] = field(default_factory=dict)  # person numbers by identifier
    # per trial: image number, person number, number of clicks, byte offset of its line, and, if the table has it, time
    image: "array[int]" = field(default_factory=lambda: array("q"))
    person: "array[int]" = field(default_factory=lambda: array("q"))
    clicks: "array[int]" = field(default_factory=lambda: array("q"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    when: "array[float]" = field(default_factory=lambda: array("d"))
    filtered: Counter[str] = field(default_factory=Counter)  # numbers of excluded trials, clicks and images by reason


class Lines(Iterator[str]):
    """The decoded lines of a file, and the byte offset of the next one.

    Args:
        file: Open file at the beginning of a line.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.offset = file.tell()

    def __next__(self) -> str:
        line = self.file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.offset += len(line)
        return line.decode("utf-8", "replace")


def read_header(file: BinaryIO) -> list[str]:
    """Return the column names from a table's first line."""
    return [name.removeprefix("\ufeff") for name in next(csv.reader(Lines(file)), [])]


def scan(path: Path, options: ClickOptions) -> tuple[Trials, list[RecordError]]:
    """Read a table once.

    Returns:
        The trials that pass the filters of single trials, and the unreadable lines.

    Raises:
        ValueError: A column is missing.
    """
    trials = Trials()
    problems: list[RecordError] = []
    with path.open("rb") as file:
        header = read_header(file)
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            found = shortened(", ".join(header))
            raise ValueError(f"{path}: expected columns {', '.join(COLUMNS)}; {' and '.join(missing)} not in {found}")
        lines = Lines(file)
        reader = csv.reader(lines)
        while True:
            offset = lines.offset
            try:
                row = next(reader)
                if row:
                    _add(trials, dict(zip(header, row, strict=False)), offset, options)
            except StopIteration:
                return trials, problems
            except (csv.Error, ValueError) as error:
                problems.append(RecordError(str(path), reader.line_num + 1, str(error)))


def first_trials(trials: Trials) -> NDArray[np.int64]:
    """Return the index of the first trial of each person on each image, by time if the table has it."""
    pairs = np.asarray(trials.image) * max(len(trials.people), 1) + np.asarray(trials.person)
    order = np.argsort(np.asarray(trials.when), kind="stable") if trials.when else np.arange(len(pairs))
    first = order[np.unique(pairs[order], return_index=True)[1]]
    trials.filtered["repeated trials of a person and image (--keep-repeats)"] += len(pairs) - len(first)
    return np.sort(first)


def parse_clicks(text: str) -> Points:
    """Parse the clicks of a trial, (N,2), x and y in whole pixels.

    Raises:
        ValueError: The text is not a list of pairs.

    >>> parse_clicks("[(12, 40), (13, 41)]").tolist()
    [[12, 40], [13, 41]]
    """
    pairs = CLICK.findall(text)
    if CLICK.sub("", text).strip(AROUND):
        raise ValueError(f"expected clicks such as [(12, 40), (13, 41)], got {shortened(text)}")
    return np.floor(np.array(pairs, np.float64).reshape(-1, 2)).astype(np.int32)


def _add(trials: Trials, row: dict[str, str], offset: int, options: ClickOptions) -> None:
    """Add a trial, or count it among the excluded ones."""
    if CATCH in row and not _number(row[CATCH], CATCH) >= options.min_catch:
        trials.filtered[f"trials with a catch score below {options.min_catch:g} (--min-catch)"] += 1
        return
    if MOBILE in row and not options.keep_mobile:
        said = row[MOBILE].strip("[] \t").lower()
        if said not in MOBILES:
            raise ValueError(f"expected {MOBILE} true or false, got {shortened(row[MOBILE])}")
        if MOBILES[said]:
            trials.filtered["trials on mobile devices (--keep-mobile)"] += 1
            return
    name = _image_name(row["image_path"])
    clicks = len(parse_clicks(row.get("clicks", "")))
    person = row.get("user_id", "")
    if not person:
        raise ValueError("expected a user_id, got none")
    when = _time(row[WHEN]) if WHEN in row else None
    trials.image.append(trials.images.setdefault(name, len(trials.images)))
    trials.person.append(trials.people.setdefault(person, len(trials.people)))
    trials.clicks.append(clicks)
    trials.offset.append(offset)
    if when is not None:
        trials.when.append(when)


def _image_name(text: str) -> str:
    """Return the last two parts of an image's path."""
    parts = PurePosixPath(text).parts[-2:]
    if len(parts) < 2 or any(part in ("/", "..") or part.startswith(".") for part in parts):
        raise ValueError(f"expected an image_path that ends in CLASS/FILE, got {shortened(text)}")
    return "/".join(parts)


def _number(text: str, column: str) -> float:
    """Parse a number; an empty cell is NaN."""
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise ValueError(f"expected {column} to be a number, got {shortened(text)}") from None


def _time(text: str) -> float:
    """Parse a time as a number of seconds; trials without one come last."""
    if not text.strip():
        return math.inf
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise ValueError(f"expected {WHEN} as a number or ISO 8601, got {shortened(text)}") from None
