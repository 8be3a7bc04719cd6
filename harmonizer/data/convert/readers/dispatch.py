"""Read one sample, whatever its source."""

from pathlib import Path

from harmonizer.data.convert.readers.arrays import read_arrays, read_map
from harmonizer.data.convert.readers.click_table import ClickOptions
from harmonizer.data.convert.readers.clicks import read_trials
from harmonizer.data.convert.readers.examples import read_example
from harmonizer.data.convert.readers.images import open_image
from harmonizer.data.convert.readers.record import HumanMap, Item, Record


def read(item: Item, clicks: ClickOptions | None = None) -> Record:
    """Read a sample.

    Raises:
        RecordError: It cannot be used; the message names file, record and reason.
    """
    if item.kind == "example":
        return read_example(item)
    if item.kind == "arrays":
        return read_arrays(item)
    return _read_image_file(item, clicks or ClickOptions())


def _read_image_file(item: Item, clicks: ClickOptions) -> Record:
    """Read an image file, and its map's or its clicks."""
    assert item.label is not None
    path = Path(item.image or item.file)
    encoded = item.read(path, path.name)
    if not encoded:
        raise item.error(f"{path.name} is empty" if item.image else "the file is empty")
    if item.kind == "clicks":
        return Record(encoded, item.label, _read_clicks(item, encoded, clicks))
    human = None if item.human is None else read_map(Path(item.human), item)
    item.check_map(human)
    return Record(encoded, item.label, human)


def _read_clicks(item: Item, encoded: bytes, options: ClickOptions) -> HumanMap:
    """Read the clicks on an image, as counts at the size that it is shown at."""
    side = options.click_size
    size = open_image(encoded, item, "the image").size if side is None else (side, side)
    clicks = read_trials(item, size, options)
    values = clicks.total_counts() / len(clicks.points)
    return HumanMap(values, float(values.max()), clicks=clicks)
