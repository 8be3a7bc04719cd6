"""Bad input: an error with file, record and reason and no partial output, or a list of what was skipped."""

import csv
import struct

import numpy as np
import pytest
import torch
from tf_records import build_example, read_records, write_records

from harmonizer.data.convert.readers.tfrecord import masked_crc32c
from harmonizer.data.shards.manifest import read_manifest

RECORDS = 4
BAD = 2  # the damaged record
PIXELS = np.zeros((9, 9, 3), np.uint8)


def edit(function):
    """Return a function that changes the bytes of a file, given the start and length of the bad record."""

    def damage(path, features):
        payloads = list(read_records(path))
        start = sum(len(payload) + 16 for payload in payloads[:BAD])
        content = bytearray(path.read_bytes())
        path.write_bytes(function(content, start, len(payloads[BAD])))

    return damage


def change(**changes):
    """Return a function that rewrites the file with changed features in the bad record; None removes a feature."""

    def damage(path, features):
        payloads = list(read_records(path))
        altered = {name: value for name, value in (features | changes).items() if value is not None}
        payloads[BAD] = build_example(altered)
        write_records(path, payloads)

    return damage


def replace_payload(payload):
    def damage(path, features):
        payloads = list(read_records(path))
        payloads[BAD] = payload
        write_records(path, payloads)

    return damage


def flip(content, position):
    content[position] ^= 0x10
    return content


def forge_length(content, start, length):
    """Announce more bytes than the file has, with a valid checksum."""
    header = struct.pack("<Q", 10**12)
    content[start : start + 12] = header + struct.pack("<I", masked_crc32c(header))
    return content


# Name: (damage, reason in the message, number of usable records)
DAMAGES = {
    "cut in the data": (edit(lambda c, s, n: c[: s + 12 + n // 2]), "the file is cut", 2),
    "cut in the header": (edit(lambda c, s, n: c[: s + 7]), "ends inside its header", 2),
    "wrong checksum of the length": (edit(lambda c, s, n: flip(c, s + 9)), "wrong checksum of the length", 2),
    "flipped byte in the length": (edit(lambda c, s, n: flip(c, s)), "wrong checksum of the length", 2),
    "impossible length": (edit(forge_length), "the file is cut", 2),
    "wrong checksum of the data": (edit(lambda c, s, n: flip(c, s + 12 + n)), "wrong checksum of the data", 3),
    "flipped byte in the data": (edit(lambda c, s, n: flip(c, s + 12 + n // 2)), "wrong checksum of the data", 3),
    "no protobuf": (replace_payload(b"\xff" * 50), "is not a tf.train.Example", 3),
    "no features": (replace_payload(b""), "'image' is missing", 3),
    "missing image": (change(image=None), "'image' is missing", 3),
    "missing heatmap": (change(heatmap=None), "heatmap is missing", 3),
    "missing label": (change(label=None), "'label' is missing", 3),
    "empty label": (change(label=[]), "'label' is missing", 3),
    "two labels": (change(label=[1, 2]), "'label' has 2 values", 3),
    "label as text": (change(label=[b"7"]), "'label' is bytes", 3),
    "label too large": (change(label=[1000]), "label 1000 is out of range", 3),
    "label negative": (change(label=[-1]), "label -1 is out of range", 3),
    "empty image": (change(image=[b""]), "'image' is empty", 3),
    "image of noise": (change(image=[b"\xff\xd8\xff" + bytes(500)]), "cannot decode", 3),
    "image of another kind": (change(image=[b"GIF89a" + bytes(99)]), "expected a JPEG or float32", 3),
}


@pytest.fixture
def damaged(clickme_file, clickme_features):
    """Return a function that writes a damaged file."""

    def write(damage):
        path = clickme_file(RECORDS)
        damage(path, clickme_features(BAD))
        return path

    return write


def listed(folder):
    with (folder / "skipped.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", DAMAGES)
def test_on_error_fail_names_the_record_and_writes_nothing(name, damaged, convert, tmp_path):
    damage, reason, _ = DAMAGES[name]
    path = damaged(damage)
    status, message = convert(path, "--out", tmp_path / "out", "--shard-size", "1")
    assert status == 1
    assert f"{path}: record {BAD}: " in message
    assert reason in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", DAMAGES)
def test_on_error_skip_lists_the_skipped_record(name, damaged, convert, read_shards, tmp_path):
    damage, reason, usable = DAMAGES[name]
    path = damaged(damage)
    status, message = convert(path, "--out", tmp_path / "out", "--on-error", "skip", "--shard-size", "2")
    assert (status, f"record {BAD}" in message) == (3, True)
    numbers = [number for number in range(usable + 1) if number != BAD]
    assert list(read_shards(tmp_path / "out")) == [f"train-0-{number:05d}" for number in numbers]
    assert read_manifest(tmp_path / "out").samples == usable
    (row,) = listed(tmp_path / "out")
    assert (row["file"], row["record"], reason in row["reason"]) == (str(path), str(BAD), True)


def test_jpegs_that_are_cut_or_of_a_wrong_size_are_refused(damaged, convert, encode, tmp_path):
    cases = {
        "JPEG of 128x256 pixels": change(image=[encode(256, 128)]),
        "heatmap is a JPEG of 224x224": change(heatmap=[encode(224, 224, mode="L")]),
        "image of mode RGB, expected one channel": change(heatmap=[encode()]),
        "cannot decode the image": change(image=[encode()[:2000]]),
        "cannot decode the heatmap": change(heatmap=[encode(mode="L")[:1500]]),
    }
    for reason, damage in cases.items():
        status, message = convert(damaged(damage), "--out", tmp_path / "out")
        assert (status, f"record {BAD}" in message, reason in message) == (1, True, True), message


def test_raw_floats_out_of_range_are_refused(damaged, convert, tmp_path):
    human = np.full((256, 256), 0.5, dtype="<f4")
    image = np.full((256, 256, 3), 100, dtype="<f4")
    cases = {
        "are -2 to 100": change(image=[np.where(image == image, image, 0).tobytes()[:-4] + struct.pack("<f", -2)]),
        "negative or not finite": change(heatmap=[human.tobytes()[:-4] + struct.pack("<f", np.nan)]),
        "expected a JPEG or float32 of 256x256 or 224x224": change(heatmap=[human.tobytes()[:-4]]),
    }
    for reason, damage in cases.items():
        status, message = convert(damaged(damage), "--out", tmp_path / "out")
        assert (status, reason in message) == (1, True), message


def test_empty_and_compressed_files_are_refused(convert, tmp_path):
    (tmp_path / "empty.tfrecords").touch()
    (tmp_path / "gz.tfrecords").write_bytes(b"\x1f\x8b" + bytes(100))
    for name, reason in (("empty", "the file is empty"), ("gz", "gunzip it first")):
        for on_error in ("fail", "skip"):
            path = tmp_path / f"{name}.tfrecords"
            status, message = convert(path, "--out", tmp_path / "out", "--on-error", on_error)
            assert (status, str(path) in message, reason in message) == (1, True, True)
    assert not (tmp_path / "out").exists()


def test_a_file_without_usable_records_makes_no_folder(convert, clickme_file, clickme_features, tmp_path):
    path = tmp_path / "bad.tfrecords"
    write_records(path, [b"\xff"] * 3)
    status, message = convert(path, "--out", tmp_path / "out", "--on-error", "skip")
    assert (status, "bad.tfrecords: record 0" in message) == (1, True)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_maps_are_accepted_with_allow_missing_map(damaged, convert, read_shards, tmp_path):
    path = damaged(change(heatmap=None))
    assert convert(path, "--out", tmp_path / "out", "--allow-missing-map") == (0, "")
    have_map = ["heatmap.png" in sample for sample in read_shards(tmp_path / "out").values()]
    assert have_map == [True, True, False, True]
    assert read_manifest(tmp_path / "out").shards[0].maps == 3


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("empty.npz", lambda path: path.touch(), "No data left"),
        ("noise.npz", lambda path: path.write_bytes(b"PK" + bytes(200)), "cannot read"),
        ("noise.pth", lambda path: path.write_bytes(bytes(200)), "cannot read"),
        ("object.npz", lambda path: np.savez(path, image=np.array([{}])), "holds pickled Python objects"),
        ("code.pth", lambda path: torch.save({"image": print}, path), "Weights only load failed"),
        ("lone.pth", lambda path: torch.save(torch.zeros(256, 256), path), "holds one array"),
        ("label.npz", lambda path: np.savez(path, image=PIXELS), "has no label"),
        (
            "half.npz",
            lambda path: np.savez(path, image=PIXELS, label=0.5),
            "expected one integer",
        ),
        ("grey.npz", lambda path: np.savez(path, image=PIXELS[0], label=0, map=PIXELS[0]), "expected (H,W,3)"),
        ("nomap.npz", lambda path: np.savez(path, image=PIXELS, label=0), "heatmap is missing"),
    ],
)
def test_damaged_array_files_are_refused(name, write, reason, convert, tmp_path):
    write(tmp_path / name)
    status, message = convert(tmp_path / name, "--out", tmp_path / "out")
    assert (status, name in message, reason in message) == (1, True, True), message
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_damaged_images_and_maps_of_a_table_are_reported(convert, encode, tmp_path):
    (tmp_path / "x").mkdir()
    table = tmp_path / "table.csv"
    (tmp_path / "good.jpg").write_bytes(encode())
    (tmp_path / "cut.jpg").write_bytes(encode()[:900])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "deep.png").write_bytes(encode(mode="I;16", kind="PNG"))
    np.save(tmp_path / "small.npy", np.ones((100, 100)))
    np.save(tmp_path / "wide.npy", np.ones((100, 256)))
    cases = [
        ("cut.jpg,0,", "cannot decode the image"),
        ("empty.jpg,0,", "empty.jpg is empty"),
        ("text.jpg,0,", "it is not an image in one of the formats JPEG, PNG, WEBP, BMP"),
        ("deep.png,0,", "expected 8 bits per channel"),
        ("absent.jpg,0,", "cannot read absent.jpg (No such file"),
        ("good.jpg,0,absent.npy", "cannot read absent.npy"),
        ("good.jpg,0,good.jpg", "image of mode RGB"),
        ("good.jpg,0,small.npy", "--prepare fel2022 accepts 256x256"),
        ("good.jpg,0,wide.npy", "expected the shape of the image"),
        ("good.jpg,,", "has no label"),
        ("good.jpg,3,", "label 3 is out of range"),
        (",0,", "has no image path"),
    ]
    for row, reason in cases:
        table.write_text(f"image,label,map\ngood.jpg,0,\n{row}\n")
        command = (table, "--out", tmp_path / "out", "--classes", "3", "--allow-missing-map")
        status, message = convert(*command)
        assert (status, f"{table}: record 3: " in message, reason in message) == (1, True, True), message
        assert convert(*command, "--on-error", "skip")[0] == 3
        assert [item["record"] for item in listed(tmp_path / "out")] == ["3"]
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        (tmp_path / "out").rmdir()
