"""TFRecord framing and tf.train.Example: golden file, properties, and damage."""

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_records import build_example, read_records, write_records

from harmonizer.data.convert.readers import tf_example
from harmonizer.data.convert.readers.tf_example import parse_example
from harmonizer.data.convert.readers.tfrecord import RecordError, index_records, masked_crc32c

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)
FEATURES = st.dictionaries(st.text(max_size=8), st.lists(st.binary()) | st.lists(FLOAT32) | st.lists(INT64), max_size=6)


def crc32c(data: bytes) -> int:
    """Compute CRC-32C bit by bit, by its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def varint(number: int) -> bytes:
    head = b""
    while number > 0x7F:
        head += bytes([number & 0x7F | 0x80])
        number >>= 7
    return head + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(name: bytes, feature: bytes) -> bytes:
    return field(1, field(1, field(1, name) + field(2, feature)))


def test_the_golden_file_is_read_with_its_labels(golden_tfrecord, golden_clickme):
    examples = [parse_example(payload) for payload in read_records(golden_tfrecord)]
    assert [e["label"] for e in examples] == [(label,) for label in golden_clickme["label"].tolist()]
    assert all(e["image"][0].startswith(b"\xff\xd8\xff") and e["heatmap"][0].startswith(b"\xff\xd8") for e in examples)


def test_rewriting_the_golden_file_reproduces_it(golden_tfrecord, tmp_path):
    write_records(tmp_path / "copy", read_records(golden_tfrecord))
    assert (tmp_path / "copy").read_bytes() == golden_tfrecord.read_bytes()


@given(st.binary(max_size=50))
def test_checksum_equals_its_definition(data):
    crc = crc32c(data)
    assert masked_crc32c(data) == ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_records_round_trip(tmp_path_factory, payloads):
    path = tmp_path_factory.mktemp("records") / "file"
    write_records(path, payloads)
    assert list(read_records(path)) == payloads
    assert [extent.length for extent in index_records(path)] == [len(payload) for payload in payloads]


@given(FEATURES)
def test_examples_round_trip(features):
    assert parse_example(build_example(features)) == {name: tuple(values) for name, values in features.items()}


@given(st.binary(max_size=60), FEATURES, st.data())
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused(noise, features, data):
    with suppress(ValueError):
        parse_example(noise)
    payload = bytearray(build_example(features))
    if payload:
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(ValueError):
        parse_example(bytes(payload))


@given(FEATURES, st.data())
def test_cut_examples_never_gain_values(features, data):
    payload = build_example(features)
    cut = payload[: data.draw(st.integers(0, max(len(payload) - 1, 0)))]
    try:
        found = parse_example(cut)
    except ValueError:
        return
    assert found == {}  # a cut message can only be complete when it is empty


@given(st.lists(INT64), st.lists(FLOAT32), st.integers(0, 5))
def test_packed_and_unpacked_numbers_are_read(integers, floats, split):
    bits = [varint(number % 2**64) for number in integers]
    mixed = b"".join(b"\x08" + b for b in bits[:split]) + field(1, b"".join(bits[split:]))
    assert parse_example(example(b"x", field(3, mixed))) == {"x": tuple(integers)}
    packed = field(1, struct.pack(f"<{len(floats[split:])}f", *floats[split:]))
    mixed = b"".join(b"\x0d" + struct.pack("<f", number) for number in floats[:split]) + packed
    assert parse_example(example(b"x", field(2, mixed))) == {"x": tuple(floats)}


def test_unknown_fields_are_ignored():
    extra = field(9, b"?") + b"\x40\x05" + b"\x51" + bytes(8) + b"\x5d" + bytes(4)  # bytes, varint, 64 and 32 bits
    assert parse_example(extra + example(b"x", extra + field(3, b"\x08\x07" + extra)) + extra) == {"x": (7,)}


@pytest.mark.parametrize(
    "payload",
    [
        example(b"x", field(3, field(1, b"\xff" * 10 + b"\x01"))),  # an integer of more than 10 bytes
        example(b"x", field(2, field(1, bytes(6)))),  # one and a half floats
        b"\x0b",  # a group without an end
        b"\x02\x00",  # field number 0
        example(b"\xff", b""),  # not UTF-8
    ],
)
def test_malformed_messages_are_refused(payload):
    with pytest.raises(ValueError, match="damaged message"):
        parse_example(payload)


@pytest.mark.parametrize(
    "payload",
    [
        example(b"x", field(3, b"\x0d" + bytes(4))),
        example(b"x", field(2, b"\x08\x01")),
        example(b"x", b"\x08\x01"),
        b"\x08\x01",
    ],
)
def test_fields_of_a_wrong_wire_type_are_refused(payload):
    with pytest.raises(ValueError, match=r"damaged message \(field [13] has wire type"):
        parse_example(payload)


@pytest.mark.parametrize("kind", [2, 3])
def test_a_long_list_of_numbers_is_refused_unparsed(kind, monkeypatch):
    monkeypatch.setattr(tf_example, "LISTS", dict.fromkeys(tf_example.LISTS))
    with pytest.raises(ValueError, match="a list of numbers has 4194309 bytes, expected at most 4194304"):
        parse_example(example(b"x", field(kind, field(1, bytes(1 << 22)))))


def three_records(folder: Path) -> Path:
    write_records(folder / "three", [b"a" * 40, b"b" * 50, b"c" * 60])
    return folder / "three"


def test_every_cut_within_a_record_is_detected(tmp_path):
    content = three_records(tmp_path).read_bytes()
    whole = {0, 56, 122, 198}  # lengths in bytes of a file of 0, 1, 2 or 3 records
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        if length in whole:
            list(read_records(tmp_path / "cut"))
            continue
        with pytest.raises(RecordError, match=r"the file (is cut|ends inside)") as error:
            list(read_records(tmp_path / "cut"))
        assert error.value.record == sum(end <= length for end in whole) - 1
        assert error.value.path == str(tmp_path / "cut")


def test_flipped_bits_are_detected(tmp_path):
    content = np.frombuffer(three_records(tmp_path).read_bytes(), dtype=np.uint8)
    for bit in range(0, 8 * len(content), 3):
        flipped = content.copy()
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "flipped").write_bytes(flipped.tobytes())
        with pytest.raises(RecordError) as error:
            list(read_records(tmp_path / "flipped"))
        assert error.value.record == np.searchsorted([56, 122], bit // 8, side="right")


def test_a_compressed_file_gets_a_hint_to_gunzip(tmp_path):
    (tmp_path / "file.gz").write_bytes(b"\x1f\x8b" + bytes(30))
    with pytest.raises(RecordError, match=r"file\.gz: record 0: .*gunzip"):
        list(read_records(tmp_path / "file.gz"))
