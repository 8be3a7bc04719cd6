"""Read ``tf.train.Example``, the protobuf message in TFRecord files of images, without TensorFlow."""

import struct
from collections.abc import Iterator

Values = tuple[bytes, ...] | tuple[float, ...] | tuple[int, ...]

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5  # protobuf wire types; groups (3 and 4) do not occur
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # fields of tf.train.Feature
MOST_NUMBERS = 1 << 22  # bytes of a list: as Python numbers it takes up to 36 times as much memory


def parse_example(payload: bytes) -> dict[str, Values]:
    r"""Read a serialised ``tf.train.Example``; lists may be packed or not, and unknown fields are passed over.

    Returns:
        The features by name; a feature without a value is an empty tuple.

    Raises:
        ValueError: The bytes are no such message.

    >>> parse_example(b"\x0a\x10\x0a\x0e\x0a\x05label\x12\x05\x1a\x03\x0a\x01\x07")
    {'label': (7,)}
    """
    features: dict[str, Values] = {}
    for message in _delimited(memoryview(payload), 1):
        for entry in _delimited(message, 1):
            names, values = list(_delimited(entry, 1)), list(_delimited(entry, 2))
            name = str(names[-1], "utf-8") if names else ""
            features[name] = _parse_feature(values[-1]) if values else ()
    return features


def _parse_feature(message: memoryview) -> Values:
    """Read a tf.train.Feature: one of three lists, of which the last one given counts."""
    result: Values = ()
    for field, wire, value in _fields(message):
        if wire != DELIMITED or not isinstance(value, memoryview):
            continue
        if field != BYTES_LIST and len(value) > MOST_NUMBERS:
            raise ValueError(f"a list of numbers has {len(value)} bytes, expected at most {MOST_NUMBERS}")
        if field == BYTES_LIST:
            result = tuple(bytes(item) for item in _delimited(value, 1))
        elif field == FLOAT_LIST:
            result = tuple(number for part in _numbers(value, FIXED32) for number in _floats(part))
        elif field == INT64_LIST:
            result = tuple(number for part in _numbers(value, VARINT) for number in _integers(part))
    return result


def _numbers(message: memoryview, wire: int) -> Iterator[memoryview | int]:
    """Yield the values of a list of numbers: packed runs, or single ones of the given wire type."""
    for field, found, value in _fields(message):
        if field == 1:
            if found not in (DELIMITED, wire):
                raise ValueError(f"a list of numbers has wire type {found}, expected {wire} or {DELIMITED}")
            yield value


def _floats(part: memoryview | int) -> tuple[float, ...]:
    """Read a packed run of floats, or the bits of one."""
    data = struct.pack("<I", part) if isinstance(part, int) else part
    if len(data) % 4:
        raise ValueError(f"a list of floats has {len(data)} bytes, expected a multiple of 4")
    return struct.unpack(f"<{len(data) // 4}f", data)


def _integers(part: memoryview | int) -> Iterator[int]:
    """Read a packed run of int64, or the bits of one."""
    position = 0
    while isinstance(part, memoryview) and position < len(part):
        number, position = _varint(part, position)
        yield number - (1 << 64) if number >> 63 else number
    if isinstance(part, int):
        yield part - (1 << 64) if part >> 63 else part


def _delimited(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the byte strings or messages with a field number."""
    for field, _, value in _fields(message):
        if field == wanted:
            if isinstance(value, int):
                raise ValueError(f"field {field} is a number, expected bytes")
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """Yield (field number, wire type, value) of a protobuf message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        field, wire = tag >> 3, tag & 7
        value: memoryview | int
        if wire == VARINT:
            value, position = _varint(message, position)
        elif wire in (DELIMITED, FIXED32, FIXED64):
            length = {FIXED32: 4, FIXED64: 8}.get(wire, 0)
            if wire == DELIMITED:
                length, position = _varint(message, position)
            value = message[position : position + length]
            if len(value) < length:
                raise ValueError(f"field {field} is cut: {length} bytes announced, {len(value)} left")
            if wire != DELIMITED:
                value = int.from_bytes(value, "little")
            position += length
        else:
            raise ValueError(f"unknown protobuf wire type {wire}")
        if field == 0:
            raise ValueError("protobuf field number 0 is not allowed")
        yield field, wire, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Read an integer of 7 bits a byte; return it, modulo 2^64, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("an integer is cut")
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, position
    raise ValueError("an integer has more than 10 bytes")
