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
    assert item.label is not None
    path = Path(item.image or item.file)
    encoded = item.read(path, path.name)
    if not encoded:
        raise item.error(f"{path.name} is empty" if item.image else "the file is empty")
    if item.kind == "clicks":
        options = clicks or ClickOptions()
        size = (options.click_size,) * 2 if options.click_size else open_image(encoded, item, "the image").size
        trials = read_trials(item, size, options)
        values = trials.total_counts() / len(trials.points)  # at the size that the image is shown at
        return Record(encoded, item.label, HumanMap(values, float(values.max()), clicks=trials))
    human = None if item.human is None else read_map(Path(item.human), item)
    item.check_map(human)
    return Record(encoded, item.label, human)
