"""Folders that hold more than images: links, pipes, archives, hidden files, and files of a misleading kind or size."""

import csv
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin
from tf_records import build_example, write_records

from harmonizer.data.convert.cli import main
from harmonizer.data.convert.readers.files import MOST_BYTES
from harmonizer.data.convert.readers.tfrecord import masked_crc32c
from harmonizer.data.image import MOST_PIXELS

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def images(encode, tmp_path):
    """A class folder with two images."""
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for number in range(2):
        (tmp_path / "images" / "cat" / f"{number}.jpg").write_bytes(encode(seed=number))
    return tmp_path / "images"


@pytest.fixture
def skipped(images, tmp_path, capsys, read_shards):
    """Return a function that converts the images and returns keys, skipped files (file -> reason) and output."""

    def run(*options):
        arguments = [str(option) for option in ("--workers", 1, "--out", tmp_path / "out", *options)]
        failed = main([str(images), *arguments])
        said, message = capsys.readouterr()
        status = main([str(images), *arguments, "--on-error", "skip"]) if failed else 0
        again, listed = capsys.readouterr(), {}
        if failed:
            assert (failed, status, "Traceback" in message) == (1, 3, False), again.err
            with (tmp_path / "out" / "skipped.csv").open() as file:
                listed = {row["file"]: row["reason"] for row in csv.DictReader(file)}
            assert next(iter(listed)) in message  # the error message names it, too
        return list(read_shards(tmp_path / "out")), listed, said + again.out

    return run


def link(place: Path, target: str | Path) -> str:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    return str(place)


TWO = ["cat-0", "cat-1"]


@pytest.mark.parametrize("target", [".", "..", "../cat"])
def test_a_link_loop_is_reported_and_duplicates_no_sample(target, images, skipped):
    place = link(images / "cat" / "self", target)
    keys, listed, _ = skipped()
    assert (keys, list(listed)) == (TWO, [place])
    assert "a loop; remove the link" in listed[place]


def test_broken_links_are_reported(images, skipped):
    places = [link(images / "cat" / "a", "b"), link(images / "cat" / "b", "a"), link(images / "cat" / "c.jpg", "no")]
    keys, listed, _ = skipped()
    assert (keys, list(listed)) == (TWO, places)
    assert all("is a broken symbolic link" in reason for reason in listed.values())


def test_links_that_leave_the_source_are_not_followed(images, skipped, encode, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.jpg").write_bytes(encode())
    (tmp_path / "secret" / "x.txt").touch()
    link(images / "cat" / "readme.txt", tmp_path / "secret" / "x.txt")  # not a kind of file that is read
    places = {link(images / "cat" / "x.jpg", tmp_path / "secret" / "x.jpg"), link(images / "dog", "../secret")}
    keys, listed, _ = skipped()
    assert (keys, set(listed)) == (TWO, places)
    assert all(f"outside {images}; copy it (cp -rL)" in reason for reason in listed.values())


def test_links_to_files_used_already_are_reported(images, skipped):
    places = {link(images / "cat" / "2.jpg", "1.jpg"), link(images / "dog", "cat")}
    keys, listed, _ = skipped()
    assert (keys, set(listed)) == (TWO, places)
    assert all("is used already" in reason for reason in listed.values())


def test_links_into_a_hidden_folder_are_followed_once(images, skipped, encode):
    (images / ".pool" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "deep/c.jpg"):
        (images / ".pool" / name).write_bytes(encode())
    link(images / ".pool" / "deep" / "up", "..")
    link(images / "cat" / "a.jpg", "../.pool/a.jpg")
    link(images / "dog", ".pool")
    keys, listed, said = skipped()
    assert keys == [*TWO, "cat-a", "dog-b", "dog-deep-c"]
    assert list(listed) == [str(images / "dog" / "a.jpg"), str(images / "dog" / "deep" / "up")]
    assert "1 hidden files or folders, which are skipped; first" in said


def test_a_source_may_be_a_symbolic_link(images, convert, read_shards, tmp_path):
    (tmp_path / "link").symlink_to(images)
    assert convert(tmp_path / "link", "--out", tmp_path / "out") == (0, "")
    assert list(read_shards(tmp_path / "out")) == TWO


def test_pipes_and_devices_are_not_opened(images, skipped, convert, tmp_path):
    os.mkfifo(images / "cat" / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "table.csv").write_text("image,label,map\nimages/cat/0.jpg,0,pipe.csv\nimages/cat/pipe.jpg,0,\n")
    keys, listed, _ = skipped()
    assert (keys, listed) == (TWO, {str(images / "cat" / "pipe.jpg"): "is a pipe, socket or device, not a file"})
    status, message = convert(tmp_path / "pipe.csv", "--out", tmp_path / "x")
    assert (status, "pipe.csv is a pipe, socket or device" in message) == (1, True)
    for row, name in ((2, "pipe.csv"), (3, "pipe.jpg")):
        table = (tmp_path / "table.csv", "--out", tmp_path / "x", "--classes", "1", "--allow-missing-map")
        status, message = convert(*table)
        assert (status, f"record {row}: cannot read" in message, name in message) == (1, True, True), message
        assert "it is a folder, pipe or device" in message
        (tmp_path / "table.csv").write_text("image,label,map\nimages/cat/0.jpg,0,\nimages/cat/pipe.jpg,0,\n")


@pytest.mark.parametrize("column", ["image", "map"])
@pytest.mark.parametrize(
    "name", ["{outside}", "../outside.png", "sub/../../outside.png", "link.png", "linked/outside.png"]
)
def test_a_table_may_only_name_files_in_its_folder(column, name, convert, encode, tmp_path):
    (tmp_path / "own/sub").mkdir(parents=True)
    for file in (tmp_path / "outside.png", tmp_path / "own/a.png"):
        file.write_bytes(encode(mode="L", kind="PNG"))
    (tmp_path / "own/link.png").symlink_to("../outside.png")
    (tmp_path / "own/linked").symlink_to("..")
    row = {"image": "a.png", "map": ""} | {column: name.format(outside=tmp_path / "outside.png")}
    (tmp_path / "own/table.csv").write_text(f"image,label,map\n{row['image']},cat,{row['map']}\n")
    status, message = convert(tmp_path / "own/table.csv", "--out", tmp_path / "out")
    assert (status, "is outside the table's folder" in message) == (1, True), message
    assert "table.csv: record 2: " in message and message.count("\n") == 1


def test_a_table_may_use_absolute_paths_in_its_folder(convert, encode, read_shards, tmp_path):
    (tmp_path / "own/sub").mkdir(parents=True)
    (tmp_path / "own/a.jpg").write_bytes(encode())
    (tmp_path / "own/table.csv").write_text(f"image,label\n{tmp_path}/own/a.jpg,cat\nsub/../a.jpg,cat\n")
    assert convert(tmp_path / "own/table.csv", "--out", tmp_path / "out") == (0, "")
    assert len(read_shards(tmp_path / "out")) == 2


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", b"image,label\n" + b"x" * 200_000])
def test_a_file_that_is_not_a_csv_table_is_refused(content, convert, tmp_path):
    (tmp_path / "table.csv").write_bytes(content)
    status, message = convert(tmp_path / "table.csv", "--out", tmp_path / "out")
    assert (status, "expected a CSV table in UTF-8" in message) == (1, True), message


def test_hidden_files_archives_and_other_files_are_reported(images, skipped):
    for name in ("._0.jpg", ".x.jpg", ".DS_Store", "n1.tar", "n2.tar.gz", "a.jfif", "b.jfif", "notes"):
        (images / "cat" / name).touch()
    keys, listed, said = skipped()
    assert (keys, listed) == (TWO, {})
    assert f"2 hidden files or folders, which are skipped; first {images}/cat/._0.jpg\n" in said
    assert (
        f"2 archives or compressed files, which are not opened; unpack those that hold samples; first {images}/cat/n1"
        in said
    )
    assert f"3 files of other kinds, .jfif (2), no suffix (1); first {images}/cat/a.jfif\n" in said


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.zip", "train.tfrecords.gz"])
def test_an_archive_as_a_source_is_refused(name, convert, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(bytes(9))
    for source in (tmp_path / "folder" / name, tmp_path / "folder"):
        status, message = convert(source, "--out", tmp_path / "out")
        assert (status, f"{tmp_path / 'folder' / name}" in message, "unpack it" in message) == (1, True, True), message


def test_overlapping_sources_are_refused(images, convert, tmp_path):
    (tmp_path / "again").symlink_to(images)
    for other in (images, tmp_path / "again"):
        status, message = convert(images, other, "--out", tmp_path / "out")
        assert (status, "are the same source; give it once" in message) == (1, True)
    status, message = convert(images, images / "cat", "--out", tmp_path / "out")
    assert (status, f"{images / 'cat'} is inside {images}, which is also a source" in message) == (1, True)


def test_repeated_keys_of_two_sources_are_numbered(images, convert, read_shards, encode, capsys, tmp_path):
    (tmp_path / "other" / "cat").mkdir(parents=True)
    (tmp_path / "other" / "cat" / "1.jpg").write_bytes(encode(seed=9))
    assert main([str(images), str(tmp_path / "other"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert "1 repeated keys get a number; first cat-1 -> cat-1_2" in capsys.readouterr().out
    samples = read_shards(tmp_path / "out")
    assert [*samples] == [*TWO, "cat-1_2"]
    assert samples["cat-1_2"]["jpg"] == encode(seed=9)


def test_an_image_has_one_map_and_unmatched_maps_are_reported(images, skipped, convert, tmp_path):
    (tmp_path / "maps" / "cat").mkdir(parents=True)
    for name in ("0.npy", "1.npy", "2.npy"):
        np.save(tmp_path / "maps" / "cat" / name, np.ones((256, 256)))
    options = ("--maps", tmp_path / "maps")
    keys, listed, said = skipped(*options)
    assert (keys, listed) == (TWO, {})
    assert f"1 maps belong to no image; first {tmp_path}/maps/cat/2.npy" in said
    np.savez(tmp_path / "maps" / "cat" / "0.npz", map=np.ones((256, 256)))
    status, message = convert(images, "--out", tmp_path / "x", *options)
    assert (status, "0.npz are maps of one image; remove one of them" in message) == (1, True)


def test_a_link_out_of_the_maps_folder_is_reported(images, skipped, tmp_path):
    (tmp_path / "maps" / "cat").mkdir(parents=True)
    np.save(tmp_path / "1.npy", np.ones((256, 256)))
    for name in ("0.npy", "1.npy"):
        np.save(tmp_path / "maps" / "cat" / name, np.ones((256, 256)))
    (tmp_path / "maps" / "cat" / "1.npy").unlink()
    place = link(tmp_path / "maps" / "cat" / "1.npy", "../../1.npy")
    keys, listed, _ = skipped("--maps", tmp_path / "maps")
    assert (keys, list(listed)) == (["cat-0"], [place, str(images / "cat" / "1.jpg")])


def test_decoding_an_image_starts_no_program(images, skipped, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("started Ghostscript"))
    (images / "cat" / "x.jpg").write_bytes(EPS)
    keys, listed, _ = skipped()
    assert (keys, list(listed)) == (TWO, [str(images / "cat" / "x.jpg")])
    assert (
        "not an image in one of the formats JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM" in listed[str(images / "cat/x.jpg")]
    )


def header(shape, kind="<f4"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def pack(path, content, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("map.npy", content)


SIDE = 1 << 15
HUGE = {
    "announced.npy": lambda path: path.write_bytes(header((SIDE, SIDE)) + bytes(64)),
    "announced.npz": lambda path: pack(path, header((1 << 40, 1 << 40)) + bytes(64)),
    "compressed.npz": lambda path: pack(path, header((SIDE, SIDE // 4), "|u1") + bytes(SIDE * SIDE // 4)),
    "polyglot.npy": lambda path: path.write_bytes(header((SIDE, SIDE)) + zipped(bytes(9))),
    "expanded.pth": lambda path: torch.save(torch.ones(1, 1).expand(1 << 20, 1 << 20), path),
    "sparse.npy": lambda path: grow(path, header((256, 256)), MOST_BYTES + 1),
    "sparse.png": lambda path: grow(path, b"\x89PNG", MOST_BYTES + 1),
}


def zipped(content):
    buffer = io.BytesIO()
    pack(buffer, content)
    return buffer.getvalue()


def grow(path, content, size):
    path.write_bytes(content)
    os.truncate(path, size)


@pytest.mark.parametrize("name", HUGE)
def test_oversized_maps_are_not_loaded(name, images, skipped, monkeypatch, tmp_path):
    (tmp_path / "maps" / "cat").mkdir(parents=True)
    np.save(tmp_path / "maps" / "cat" / "0.npy", np.ones((256, 256)))
    HUGE[name](tmp_path / "maps" / "cat" / f"1{Path(name).suffix}")
    keys, listed, _ = skipped("--maps", tmp_path / "maps")
    assert (keys, list(listed)) == (["cat-0"], [str(images / "cat" / "1.jpg")])
    reason = listed[str(images / "cat" / "1.jpg")]
    assert "expected at most" in reason or f"more than {MOST_BYTES} bytes" in reason


def test_oversized_images_in_arrays_are_refused(convert, tmp_path):
    assert MOST_PIXELS < 1 << 27
    image = torch.zeros(1, 1, 3, dtype=torch.uint8).expand(1 << 14, 1 << 13, 3)
    torch.save({"image": image, "label": 0}, tmp_path / "x.pth")
    status, message = convert(tmp_path / "x.pth", "--out", tmp_path / "out", "--allow-missing-map")
    assert (status, "expected at most 89478485 pixels" in message) == (1, True), message


def test_oversized_records_are_not_read(convert, clickme_features, tmp_path):
    path = tmp_path / "a.tfrecords"
    write_records(path, [build_example(clickme_features() | {"boxes": [1 << 20] * (3 << 20)})])
    status, message = convert(path, "--out", tmp_path / "out")
    assert (status, "record 0: is not a tf.train.Example (a list of numbers has" in message) == (1, True), message
    length = struct.pack("<Q", MOST_BYTES + 1)
    grow(path, length + struct.pack("<I", masked_crc32c(length)), MOST_BYTES + 17)
    status, message = convert(path, "--out", tmp_path / "out")
    assert (status, f"record 0: has {MOST_BYTES + 1} bytes, expected at most" in message) == (1, True), message
