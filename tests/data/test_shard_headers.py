"""Shards with false headers, unusable labels, or members that belong to no sample."""

import os
import re
import tarfile

import pytest
from shard_data import rewrite, write_folder
from tar_files import IMAGE, JUNK, PLAIN, adopted, entry, members, write_tar

from harmonizer.data.adopt import main
from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.inspect import describe, inspect
from harmonizer.data.inspect import main as look
from harmonizer.data.loader import BatchLoader
from harmonizer.data.sampling import EvaluationBatches
from harmonizer.data.shards.manifest import NAME
from harmonizer.data.shards.reader import ShardFolder
from harmonizer.data.shards.tar_index import read_contents


def broken(size=None, *, name=b"a.png", kind=b"0", content=b""):
    """Return a tar file of one member, with the given size field and a valid checksum."""
    info = tarfile.TarInfo(name.decode())
    info.size = len(content)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = kind
    if size is not None:
        header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512) + bytes(1024)


HUGE = (1 << 62).to_bytes(11, "big")

PAX = b"30 GNU.sparse.realsize=100000\n"

HEADERS = {
    "negative, binary": (broken(b"\xff" * 12), "not a readable tar file"),
    "negative, minus one block": (broken((-512).to_bytes(12, "big", signed=True)), "not a readable tar file"),
    "negative, octal": (broken(b"-0000001000\0"), "not a readable tar file"),
    "with underscores": (broken(b"0_000000010\0"), "not a readable tar file"),
    "beyond the file": (broken(b"00000100000\0"), "cut short in 'a.png': 32768 bytes are announced, 1024 are there"),
    "beyond any file": (broken(b"\x80" + HUGE), "cut short in 'a.png'"),
    "long name beyond the file": (broken(b"\x80" + HUGE, kind=b"L"), "an extended header of 4611686018427387904"),
    "oversized long name": (broken(kind=b"L", content=b"a" * (1 << 21)) + broken(), "an extended header of 2097152"),
    "oversized record": (broken(kind=b"x", content=b"9" * (1 << 21)) + broken(), "an extended header of 2097152"),
    "long name": (broken(kind=b"L", content=b"a" * 5000)[:-1024] + broken(), "a name of 5000 characters"),
    "negative pax size": (broken(kind=b"x", content=b"11 size=-9\n")[:-1024] + broken(), "announces a size of '-9'"),
    "pax size of many digits": (
        broken(kind=b"x", content=b"5009 size=" + b"9" * 4998 + b"\n")[:-1024] + broken(),
        "announces a size of '9999",
    ),
    "record without an end": (broken(kind=b"x", content=b"11 size=900")[:-1024] + broken(), "an extended header"),
    "record of length 0": (broken(kind=b"x", content=b"0 size=9\n")[:-1024] + broken(), "invalid header"),
    "sparse, GNU": (broken(kind=b"S", content=b"x"), "holds 'a.png', a sparse file"),
    "sparse, POSIX": (broken(kind=b"x", content=PAX)[:-1024] + broken(content=b"x"), "holds 'a.png', a sparse file"),
    "symbolic link": (broken(kind=b"2"), "holds 'a.png', a symbolic link"),
    "hard link": (broken(kind=b"1"), "holds 'a.png', a hard link"),
    "device": (broken(kind=b"3"), "holds 'a.png', an entry of type b'3'"),
    "two tar files in one": (broken(content=IMAGE) + broken(content=IMAGE), "has more after its end at byte 1024"),
    "unknown kind": (broken(kind=b"Q"), "holds 'a.png', an entry of type b'Q'"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_false_header_is_an_error_that_names_the_shard(name, tmp_path):
    content, message = HEADERS[name]
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="shard") as error:
        read_contents(path)
    assert str(path) in str(error.value) and message in str(error.value)
    assert message in inspect(tmp_path)[2][0]


@pytest.mark.parametrize("text", [b"1_0", "\u0663".encode(), b"9" * 5000, b"", b"1.0", b"0x1", b"1" + bytes(1)])
def test_an_unusable_label_is_reported(text, tmp_path, capsys):
    write_tar(tmp_path / "x.tar", [entry("a.png", IMAGE), entry("a.cls", text)])
    assert main([str(tmp_path), "--cache", str(tmp_path / "cache")]) == 1
    assert re.search(r"x\.tar: sample 'a' has (an empty )?\.cls", capsys.readouterr().err)
    assert look([str(tmp_path), "--sheet", str(tmp_path / "sheet.png")]) == 1
    assert (tmp_path / "sheet.png").is_file()


def test_a_label_may_have_surrounding_whitespace(tmp_path, capsys):
    write_tar(tmp_path / "x.tar", [entry("a.png", IMAGE), entry("a.cls", b" 1\n")])
    loader = BatchLoader(ShardDataset([adopted(tmp_path)], PLAIN), EvaluationBatches(1, 1))
    assert [batch.labels.tolist() for batch in loader] == [[1]]
    assert look([str(tmp_path), "--sheet", str(tmp_path / "sheet.png")]) == 0


def test_a_long_name_survives_a_following_long_link(tmp_path):
    path = tmp_path / "x.tar"
    parts = (broken(kind=b"L", content=b"name.png")[:-1024], broken(kind=b"K", content=b"target")[:-1024], broken())
    path.write_bytes(b"".join(parts))
    assert [sample.key for sample in read_contents(path).samples] == ["name"]


def test_global_headers_change_no_member(tmp_path):
    path = tmp_path / "x.tar"
    parts = (broken(kind=b"g", content=b"15 path=all.png\n")[:-1024], broken()[:-1024], broken(name=b"b.png"))
    path.write_bytes(b"".join(parts))
    contents = read_contents(path)
    assert [sample.key for sample in contents.samples] == ["a", "b"]
    assert not contents.passed_over


def test_only_regular_files_are_opened_as_shards(tmp_path):
    os.mkfifo(tmp_path / "x.tar")
    for use in (read_contents, lambda path: inspect(path), lambda path: adopted(path.parent)):
        with pytest.raises(OSError, match=r"x\.tar is a FIFO; expected a regular file"):
            use(tmp_path / "x.tar")
    (tmp_path / "y").mkdir()
    (tmp_path / "y/x.tar").symlink_to("/dev/zero")
    with pytest.raises(OSError, match=r"x\.tar is a device; expected a regular file"):
        adopted(tmp_path / "y")
    with pytest.raises(OSError, match="is a folder"):
        read_contents(tmp_path / "y")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("absent.json")], ids=["pipe", "link"])
def test_an_unreadable_manifest_is_an_error(tmp_path, make, capsys):
    write_tar(tmp_path / "x.tar", members("a", 0))
    make(tmp_path / NAME)
    for command in (main, look):
        assert command([str(tmp_path)]) == 1
        assert "manifest.json is not a file, or is a broken link" in capsys.readouterr().err
    with pytest.raises(OSError, match="broken link"):
        ShardFolder(tmp_path)


def test_names_not_utf8_or_unprintable_are_refused(tmp_path):
    write_tar(tmp_path / "x.tar", members("a\udcff", 0), format=tarfile.GNU_FORMAT, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"x\.tar holds 'a\\udcff\.png', expected a name in UTF-8"):
        adopted(tmp_path)
    write_tar(tmp_path / "x.tar", members("a\x1b[31m", 0))
    with pytest.raises(ValueError, match=r"x\.tar holds 'a\\x1b\[31m\.png'"):
        adopted(tmp_path)


def test_members_of_no_sample_are_counted_and_reported(tmp_path, caplog):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "x.tar", [*members("a", 0), *JUNK])
    assert len(read_contents(folder / "x.tar").passed_over) == len(JUNK)
    assert len(adopted(folder)) == 1
    assert "7 (./d/, old/, ._a.png, ...)" in caplog.text
    assert ("skipped", "7 (./d/, old/, ._a.png, ...)") in describe(*inspect(folder)[:2])


def test_sample_names_with_dots_are_reported(tmp_path, caplog):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "x.tar", [*members("a", 0), *members("a.v2", 0)])
    with pytest.raises(ValueError, match=r"x\.tar holds a sample 'a\.v2', expected a name without dots"):
        adopted(folder)
    write_tar(folder / "x.tar", [*members("a", 0), entry("a.v2.png", IMAGE), entry("a.coarse.cls", b"1")])
    assert len(adopted(folder)) == 1
    assert "not read because of a dot in their names: 1 (a.v2.png)" in caplog.text
    write_tar(folder / "x.tar", [entry("a.v2.png", IMAGE), entry("a.cls", b"0")])
    with pytest.raises(ValueError, match=r"'a' has no image, .*; it has \.v2\.png, \.cls"):
        adopted(folder)


def test_an_incomplete_sample_lists_its_members(tmp_path):
    folder = write_folder(tmp_path / "shards", train=4, val=1, size=8) / "train"
    rewrite(folder / "000000.tar", "s00001", cls=None)
    with pytest.raises(ValueError, match=r"'s00001' .* has no \.cls, it has \.png, \.heatmap\.png;"):
        ShardDataset(folder, PLAIN)[SampleIndex(1, 0)]
    (folder / NAME).unlink()
    with pytest.raises(ValueError, match=r"'s00001' has no \.cls; it has \.heatmap\.png, \.png"):
        adopted(folder)


@pytest.mark.parametrize("extension", ["png", "cls"])
def test_empty_members_are_found_at_adoption(tmp_path, extension):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "x.tar", [e for e in members("a", 0) if extension not in e[0].name] + [entry(f"a.{extension}")])
    with pytest.raises(ValueError, match=rf"x\.tar: sample 'a' has an empty \.{extension}"):
        adopted(folder)


@pytest.mark.parametrize("name", ["b.tar.gz", "b.tgz", "B.TAR.ZST", "b.tbz", "b.tar.Z", "b.tar.7z"])
def test_compressed_shards_are_an_error_not_skipped(tmp_path, name, capsys):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "a.tar", members("a", 0))
    write_tar(folder / "B.TAR", members("b", 0))
    assert len(adopted(folder)) == 2
    (folder / name).write_bytes(b"")
    assert main([str(folder)]) == 1
    assert f"expected .tar, got 1 ({name}); decompress them" in capsys.readouterr().err
