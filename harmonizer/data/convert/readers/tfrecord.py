"""Read TFRecord files without TensorFlow.

A file is a sequence of records: length (uint64), masked CRC-32C of the length, payload, masked CRC-32C of the payload;
integers are little-endian. ``harmonizer.data.convert.readers.tf_example`` parses the payloads of images.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c

CRC_MASK_DELTA = 0xA282EAD8  # of the TFRecord format
HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")


class RecordError(ValueError):
    """An unusable record or file.

    Attributes:
        path: File name.
        record: Number of the record from 0; None for the whole file.
        reason: What is wrong.
    """

    def __init__(self, path: str, record: int | None, reason: str) -> None:
        super().__init__(path, record, reason)  # all three, so that the error can be pickled
        self.path = path
        self.record = record
        self.reason = reason

    def __str__(self) -> str:
        place = "" if self.record is None else f"record {self.record}: "
        return f"{self.path}: {place}{self.reason}"


class Extent(NamedTuple):
    """Position of a record's payload in its file, in bytes."""

    offset: int
    length: int


def index_records(path: Path) -> Iterator[Extent]:
    """Find the records of a file, reading only their headers.

    Yields:
        Position of each payload; an empty file has none.

    Raises:
        RecordError: A header is damaged or the file is cut, so that later records cannot be found.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        position, record = 0, 0
        while position < size:
            file.seek(position)
            header = file.read(HEADER.size)
            if len(header) < HEADER.size:
                raise RecordError(str(path), record, f"the file ends inside its header, at byte {size}")
            length, crc = HEADER.unpack(header)
            if crc != masked_crc32c(header[:8]):
                hint = "; the file is compressed: gunzip it first" if header[:2] == b"\x1f\x8b" and record == 0 else ""
                raise RecordError(str(path), record, f"wrong checksum of the length, at byte {position}{hint}")
            end = position + HEADER.size + length + FOOTER.size
            if end > size:
                raise RecordError(str(path), record, f"the file is cut: expected {end} bytes, got {size}")
            yield Extent(position + HEADER.size, length)
            position, record = end, record + 1


def read_record(file: BinaryIO, extent: Extent, *, path: str, record: int) -> bytes:
    """Read and check one payload.

    Raises:
        RecordError: The payload is cut or its checksum is wrong.
    """
    file.seek(extent.offset)
    content = file.read(extent.length + FOOTER.size)
    if len(content) < extent.length + FOOTER.size:
        raise RecordError(path, record, "the file is cut")
    payload = content[: extent.length]
    if FOOTER.unpack(content[extent.length :])[0] != masked_crc32c(payload):
        raise RecordError(path, record, "wrong checksum of the data: the file is damaged")
    return payload


def masked_crc32c(data: bytes) -> int:
    """Return the masked checksum that TFRecord stores.

    >>> hex(masked_crc32c(b"123456789"))
    '0xc78ab0e5'
    """
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + CRC_MASK_DELTA) & 0xFFFFFFFF
