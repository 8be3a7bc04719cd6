"""Samples in TFRecord files: ClickMe in its three layouts, and ImageNet."""

from pathlib import Path
from typing import TypeVar

import numpy as np

from harmonizer.data.convert.readers.arrays import decode_map, to_map, to_pixels
from harmonizer.data.convert.readers.files import MOST_BYTES
from harmonizer.data.convert.readers.images import open_image
from harmonizer.data.convert.readers.record import HumanMap, Item, Pixels, Record
from harmonizer.data.convert.readers.tf_example import Values, parse_example
from harmonizer.data.convert.readers.tfrecord import read_record

JPEG_SIZE = 256  # pixels per side, in the layout with JPEG image and map
RAW_SIZES = (256, 224)  # pixels per side, in the two layouts with raw float32
JPEG_START = b"\xff\xd8\xff"
Kind = TypeVar("Kind", bytes, int, float)


def read_example(item: Item) -> Record:
    """Read one record of a TFRecord file.

    Raises:
        RecordError: The record is damaged, or a feature is missing or has a wrong type or size.
    """
    assert item.extent is not None
    if item.extent.length > MOST_BYTES:
        raise item.error(f"has {item.extent.length} bytes, expected at most {MOST_BYTES}")
    try:
        with Path(item.file).open("rb") as file:
            payload = read_record(file, item.extent, path=item.file, record=item.record or 0)
    except OSError as error:
        raise item.error(f"cannot read the file ({error.strerror})") from None
    try:
        features = parse_example(payload)
    except ValueError as error:
        raise item.error(f"is not a tf.train.Example ({error})") from None
    if "image/encoded" in features or "image/class/label" in features:
        label = _one(features, "image/class/label", item, int)
        if not 1 <= label <= 1000:
            raise item.error(f"label {label} is out of range; expected 1 to 1000 in ImageNet's TFRecords")
        return Record(_one(features, "image/encoded", item, bytes), label - 1)
    image, human = _image(_one(features, "image", item, bytes), item), None
    if features.get("heatmap"):
        human = _human(_one(features, "heatmap", item, bytes), item)
    item.check_map(human)
    notes = {"click_count": _one(features, "click_count", item, float, int)} if features.get("click_count") else {}
    return Record(image, _one(features, "label", item, int), human, notes)


def _image(data: bytes, item: Item) -> bytes | Pixels:
    """Detect the layout of an image by its bytes, and check its size."""
    for size in RAW_SIZES:
        if len(data) == size * size * 3 * 4:
            return to_pixels(np.frombuffer(data, "<f4").reshape(size, size, 3), item)
    if not data.startswith(JPEG_START):
        raise item.error(f"image has {len(data)} bytes, expected a JPEG or float32 of 256x256x3 or 224x224x3")
    width, height = open_image(data, item, "image", header_only=True).size
    if (width, height) != (JPEG_SIZE, JPEG_SIZE):
        raise item.error(f"image is a JPEG of {width}x{height} pixels, expected {JPEG_SIZE}x{JPEG_SIZE}")
    return data


def _human(data: bytes, item: Item) -> HumanMap:
    """Detect the layout of a map by its bytes, and check its size."""
    for size in RAW_SIZES:
        if len(data) == size * size * 4:
            return to_map(np.frombuffer(data, "<f4").reshape(size, size), item)
    if not data.startswith(JPEG_START):
        raise item.error(f"heatmap has {len(data)} bytes, expected a JPEG or float32 of 256x256 or 224x224")
    human = decode_map(data, item)
    if human.values.shape != (JPEG_SIZE, JPEG_SIZE):
        height, width = human.values.shape
        raise item.error(f"heatmap is a JPEG of {width}x{height} pixels, expected {JPEG_SIZE}x{JPEG_SIZE}")
    return human


def _one(features: dict[str, Values], name: str, item: Item, *kinds: type[Kind]) -> Kind:
    """Return the only value of a feature, which must be of one of these types and not empty."""
    values = features.get(name, ())
    if not values:
        held = f"; the record holds {', '.join(sorted(features))}" if features else "; the record holds no features"
        raise item.error(f"feature {name!r} is missing{held}")
    if len(values) > 1:
        raise item.error(f"feature {name!r} has {len(values)} values, expected one")
    value = values[0]
    if not isinstance(value, kinds):
        raise item.error(f"feature {name!r} is {type(value).__name__}, expected {kinds[0].__name__}")
    if value == b"":
        raise item.error(f"feature {name!r} is empty")
    return value
