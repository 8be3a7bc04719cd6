"""Raw clicks: a CSV file with one line per trial, as exported by ClickMe v2."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmonizer.data.class_names import name_classes, number_folders
from harmonizer.data.clicks import Clicks
from harmonizer.data.convert.readers.click_table import (
    ClickOptions,
    Lines,
    Trials,
    first_trials,
    parse_clicks,
    read_header,
    scan,
)
from harmonizer.data.convert.readers.names import make_key
from harmonizer.data.convert.readers.record import Found, Item
from harmonizer.data.convert.readers.tfrecord import RecordError


def is_click_table(path: Path) -> bool:
    """Return whether a CSV file has the columns of raw clicks."""
    with path.open("rb") as file:
        return {"image_path", "clicks"} <= set(read_header(file))


def find_clicks(
    path: Path, images: Path | None, options: ClickOptions, classes: tuple[str, ...] | None = None
) -> Found:
    """List the images of a table of clicks; the clicks are read later, image by image.

    Args:
        path: CSV with the columns ``image_path`` (its last two parts are class and file), ``clicks``, such as
            ``[(12, 40), (13, 41)]``, x and y in pixels, and ``user_id``; optionally ``user_catch_trial``,
            ``is_mobile`` and ``timestamp`` (without it, a person's first trial is the first in the file).
        images: Folder of the images, ``CLASS/FILE`` or ``FILE``.
        options: Which trials count.
        classes: Class names; None takes those of the paths.

    Raises:
        FileNotFoundError: The folder of images does not exist.
        ValueError: No folder of images is given, a column is missing, or a class is unknown.
    """
    if images is None:
        raise ValueError(f"{path} holds raw clicks; expected the folder of their images, try --images FOLDER")
    if not images.is_dir():
        raise FileNotFoundError(f"--images {images}: no such folder")
    trials, problems = scan(path, options)
    items, names = [], []
    for name, offsets in _by_image(trials, _counted(trials, options)):
        if len(offsets) < options.min_subjects:
            trials.filtered[f"images with fewer than {options.min_subjects} people (--min-subjects)"] += 1
            continue
        place = next((file for file in (images / name, images / Path(name).name) if file.is_file()), None)
        if place is None:
            problems.append(RecordError(str(path), None, f"{name} is not in --images {images}"))
            continue
        names.append(name)
        items.append(Item("clicks", make_key(Path(name)), str(path), image=str(place), trials=offsets.tobytes()))
    folders = {name.partition("/")[0] for name in names}
    found = classes or name_classes(sorted(folders))
    try:
        labels = number_folders(folders, found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    items = [item._replace(label=labels[name.partition("/")[0]]) for item, name in zip(items, names, strict=True)]
    filtered = [RecordError(str(path), None, f"{count} {what}") for what, count in trials.filtered.items() if count]
    return Found(items, problems, found, filtered=filtered)


def read_trials(item: Item, size: tuple[int, int], options: ClickOptions) -> Clicks:
    """Read the clicks on one image.

    Args:
        item: An image of a table of clicks.
        size: Width and height, in pixels, of the click coordinates.
        options: How many clicks of a trial are kept.

    Raises:
        RecordError: The table has changed, or no click is on the image.
    """
    trials = []
    try:
        with Path(item.file).open("rb") as file:
            column = read_header(file).index("clicks")
            for offset in np.frombuffer(item.trials, np.int64).tolist():
                file.seek(offset)
                trials.append(parse_clicks(next(csv.reader(Lines(file)))[column])[: options.max_clicks])
    except (OSError, ValueError, LookupError, StopIteration, csv.Error) as error:
        raise item.error(f"the table of clicks has changed ({error}); rerun the command with --restart") from None
    width, height = size
    clicks = Clicks.on_image(trials, height, width)
    if not clicks.points:
        name = Path(item.image or item.file).name
        raise item.error(
            f"none of {clicks.outside} clicks is on {name}, which has {width}x{height} pixels; "
            "try --click-size 256 if clicks are in a square of 256 pixels"
        )
    return clicks


def _counted(trials: Trials, options: ClickOptions) -> NDArray[np.int64]:
    """Return the indices of the trials that count, and count the others by reason."""
    kept = np.arange(len(trials.image)) if options.keep_repeats else first_trials(trials)
    clicks = np.asarray(trials.clicks)[kept]
    enough = clicks >= options.min_clicks
    trials.filtered[f"trials of fewer than {options.min_clicks} clicks (--min-clicks)"] += int((~enough).sum())
    if options.max_clicks is not None:
        beyond = np.maximum(clicks[enough] - options.max_clicks, 0).sum()
        trials.filtered[f"clicks after the first {options.max_clicks} of a trial (--max-clicks)"] += int(beyond)
    counted: NDArray[np.int64] = kept[enough]
    return counted


def _by_image(trials: Trials, kept: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield the images in the order of their first trials, with the byte offsets of their trials' lines."""
    image, offset = np.asarray(trials.image)[kept], np.asarray(trials.offset)[kept]
    order = np.argsort(image, kind="stable")
    ends = np.searchsorted(image[order], np.arange(len(trials.images) + 1))
    for number, name in enumerate(trials.images):
        yield name, offset[order[ends[number] : ends[number + 1]]]
