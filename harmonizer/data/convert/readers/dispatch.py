"""Read one sample, whatever its source."""

from pathlib import Path

from harmonizer.data.convert.readers.arrays import read_arrays, read_map
from harmonizer.data.convert.readers.examples import read_example
from harmonizer.data.convert.readers.files import read_file
from harmonizer.data.convert.readers.record import Item, Record


def read(item: Item) -> Record:
    """Read a sample.

    Raises:
        RecordError: It cannot be used; the message names file, record and reason.
    """
    if item.kind == "example":
        return read_example(item)
    if item.kind == "arrays":
        return read_arrays(item)
    return _read_image_file(item)


def _read_image_file(item: Item) -> Record:
    """Read an image file, and its map's."""
    assert item.label is not None
    path = Path(item.image or item.file)
    try:
        encoded = read_file(path)
    except (OSError, ValueError) as error:
        raise item.error(f"cannot read {path.name} ({getattr(error, 'strerror', error)})") from None
    if not encoded:
        raise item.error(f"{path.name} is empty" if item.image else "the file is empty")
    human = None if item.human is None else read_map(Path(item.human), item)
    item.check_map(human)
    return Record(encoded, item.label, human)
