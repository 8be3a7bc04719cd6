"""TFRecord files of ``tf.train.Example``, as TensorFlow writes them."""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from harmonizer.data.convert.readers.tfrecord import FOOTER, index_records, masked_crc32c, read_record

DELIMITED = 2  # protobuf wire type
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # fields of tf.train.Feature


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a file, in order."""
    with path.open("rb") as file:
        for record, extent in enumerate(index_records(path)):
            yield read_record(file, extent, path=str(path), record=record)


def write_records(path: Path, payloads: Iterable[bytes]) -> None:
    """Write a file of records."""
    with path.open("wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + FOOTER.pack(masked_crc32c(length)))
            file.write(payload + FOOTER.pack(masked_crc32c(payload)))


def build_example(features: Mapping[str, Sequence[bytes] | Sequence[float] | Sequence[int]]) -> bytes:
    """Serialise a ``tf.train.Example``; features are sorted by name."""
    entries = b""
    for name in sorted(features):
        entry = _field(1, name.encode()) + _field(2, _build_feature(features[name]))
        entries += _field(1, entry)
    return _field(1, entries)


def _build_feature(values: Sequence[bytes] | Sequence[float] | Sequence[int]) -> bytes:
    """Serialise a tf.train.Feature; an empty list has no kind."""
    kinds = {type(value) for value in values}
    if not kinds:
        return b""
    if kinds == {bytes}:
        return _field(BYTES_LIST, b"".join(_field(1, bytes(value)) for value in values))
    if kinds == {float}:
        return _field(FLOAT_LIST, _field(1, struct.pack(f"<{len(values)}f", *values)))
    packed = b"".join(_build_varint(int(value) & 0xFFFFFFFFFFFFFFFF) for value in values)
    return _field(INT64_LIST, _field(1, packed))


def _field(number: int, content: bytes) -> bytes:
    """Serialise a field that holds bytes."""
    return _build_varint(number << 3 | DELIMITED) + _build_varint(len(content)) + content


def _build_varint(number: int) -> bytes:
    """Serialise an integer in 0 .. 2^64 - 1."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
