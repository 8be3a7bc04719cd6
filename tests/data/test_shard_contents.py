"""Random shards with the faults of real ones: each sample is found exactly once, or an error names it."""

import io
import os
import re
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_data import png, rewrite, sample, write_folder

from harmonizer.data.adopt import find_shards, load_manifest, main
from harmonizer.data.dataset import Position, ShardDataset
from harmonizer.data.inspect import describe, inspect
from harmonizer.data.inspect import main as look
from harmonizer.data.loader import BatchLoader
from harmonizer.data.sampling import EvaluationBatches
from harmonizer.data.shards.manifest import NAME, Manifest, Shard, read_manifest, write_manifest
from harmonizer.data.shards.reader import ShardFolder
from harmonizer.data.shards.tar_index import index_shard, read_contents
from harmonizer.data.shards.writer import write_shard, write_shards
from harmonizer.data.transforms import JointTransform

IMAGE = png(np.zeros((4, 4, 3), np.uint8))
PLAIN = JointTransform(4)


def entry(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write_tar(path, entries, **settings):
    with tarfile.open(path, "w", **settings) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return path


def members(key, label, extension="png"):
    return [entry(f"{key}.{extension}", IMAGE), entry(f"{key}.cls", b"%d" % label)]


def adopted(folder):
    """Open a folder of shards from elsewhere."""
    return ShardFolder(folder, manifest=load_manifest(folder, cache=folder.with_name(f"{folder.name}-cache")))


KEYS = st.sampled_from(["a", "b", "C", "c", "d/a", "0.tar/a", "\N{SNOWMAN}"])
JUNK = [
    entry("./d", type=tarfile.DIRTYPE),
    entry("old/", type=tarfile.AREGTYPE),
    entry("._a.png", b"Mac"),
    entry("d/._a.cls", b"Mac"),
    entry(".DS_Store", b"x"),
    entry("README", b"x"),
    entry("latest", type=tarfile.SYMTYPE, linkname="a.png"),
]
SHARDS = st.lists(st.lists(st.tuples(KEYS, st.booleans(), st.sampled_from([None, *JUNK])), max_size=5), min_size=1)


@given(SHARDS.filter(any))
def test_each_sample_is_found_exactly_once_or_named(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("shards")
    expected, twice = {}, None
    for number, keys in enumerate(shards):
        entries, seen = [], set()
        for key, upper, junk in keys:
            label = len(expected)
            entries += members(key, label, "PNG" if upper else "png") + ([] if junk is None else [junk])
            if key in seen and twice is None:
                twice = rf"{number}\.tar holds '{key}\.(png|PNG)' twice"
            seen.add(key)
            expected[number, key] = label
        write_tar(folder / f"{number}.tar", entries)
    if twice:
        with pytest.raises(ValueError, match=twice):
            for path in find_shards(folder):
                index_shard(path)
        with pytest.raises(ValueError, match="twice"):
            adopted(folder)
        assert any("twice" in problem for problem in inspect(folder)[2])
        return
    source = adopted(folder)
    keys = [key for _, key in expected]
    repeated = len({*keys}) < len(keys)
    assert source.repeated_keys == source.manifest.repeated_keys == repeated
    loader = BatchLoader(ShardDataset([source], PLAIN), EvaluationBatches(len(source), 3))
    found = [pair for batch in loader for pair in zip(batch.keys, batch.labels.tolist(), strict=True)]
    assert found == [(f"{number}.tar/{key}" if repeated else key, i) for (number, key), i in expected.items()]
    assert len(dict(found)) == len(expected)
    assert inspect(folder)[2] == []


def test_two_pictures_in_lower_and_upper_case_are_one_name(tmp_path):
    write_tar(tmp_path / "x.tar", [*members("a", 0), entry("a.PNG", IMAGE)])
    with pytest.raises(ValueError, match=r"x\.tar holds 'a\.PNG' twice"):
        index_shard(tmp_path / "x.tar")


def test_a_sample_twice_ends_the_loader_whatever_the_manifest_says(tmp_path):
    for entries in ([*members("x", 0), *members("x", 1)], [*members("x", 0), *members("y", 0), *members("x", 1)]):
        path = write_tar(tmp_path / "0.tar", entries)
        write_manifest(tmp_path, Manifest(("a", "b"), "", (Shard("0.tar", len(entries) // 2, 0, ""),)))
        for on_error in ("fail", "skip"):
            with pytest.raises(ValueError, match=rf"shard {path} holds 'x.png' twice"):
                ShardDataset(tmp_path, PLAIN, on_error=on_error)


@pytest.mark.parametrize("key", ["a", "a.b", "", "d/", "a\nb", "a\udcff"])
def test_our_own_writers_refuse_what_they_could_not_read_back(tmp_path, key):
    samples = [sample(0), sample(1) | {"__key__": key if key != "a" else "s00000"}]
    with pytest.raises(ValueError, match=r"expected (every key once|a key without dots)"):
        write_shard(tmp_path / "x.tar", samples)
    with pytest.raises(ValueError, match=r"expected (every key once|a key without dots)"):
        write_shards(samples, tmp_path / "x", classes=("a", "b"), maps="", samples_per_shard=1)
    assert not list(tmp_path.iterdir())


def test_a_manifest_that_lists_a_shard_twice_is_refused(tmp_path):
    write_manifest(tmp_path, Manifest(("a",), "", (Shard("0.tar", 1, 0, ""),) * 2))
    with pytest.raises(ValueError, match=r"the shard '0\.tar' is listed twice"):
        read_manifest(tmp_path)


def test_repeated_keys_are_kept_in_the_manifest_and_leave_its_digest(tmp_path):
    manifest = Manifest(("a",), "", (Shard("0.tar", 1, 0, ""),))
    marked = Manifest(("a",), "", (Shard("0.tar", 1, 0, ""),), repeated_keys=True)
    write_manifest(tmp_path, manifest)
    assert "repeated_keys" not in (tmp_path / NAME).read_text()
    write_manifest(tmp_path, marked)
    assert read_manifest(tmp_path) == marked
    assert marked.digest() == manifest.digest()
    (tmp_path / NAME).write_text((tmp_path / NAME).read_text().replace("true", "1"))
    with pytest.raises(ValueError, match="repeated_keys must be true or false"):
        read_manifest(tmp_path)


def test_names_in_a_mixture_say_the_folder(tmp_path):
    one, two = (write_folder(tmp_path / name, train=4, val=1, size=8) / "train" for name in "ab")
    dataset = ShardDataset([ShardFolder(one), ShardFolder(two)], PLAIN)
    assert dataset[Position(0, 0)].key == f"{one}/000000.tar/s00000"
    assert dataset[Position(4, 0)].key == f"{two}/000000.tar/s00000"


def broken(size=None, *, name=b"a.png", kind=b"0", content=b""):
    """Return a tar file of one member, with a size field of one's own and a right checksum."""
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
    "long name beyond the file": (broken(b"\x80" + HUGE, kind=b"L"), "cut short"),
    "oversized long name": (broken(kind=b"L", content=b"a" * (1 << 21)) + broken(), "an extended header of 2097152"),
    "oversized record": (broken(kind=b"x", content=b"9" * (1 << 21)) + broken(), "an extended header of 2097152"),
    "long name": (broken(kind=b"L", content=b"a" * 5000)[:-1024] + broken(), "a name of 5000 characters"),
    "negative pax size": (broken(kind=b"x", content=b"11 size=-9\n")[:-1024] + broken(), "announces a size of b'-9'"),
    "pax size of many digits": (
        broken(kind=b"x", content=b"5009 size=" + b"9" * 4998 + b"\n")[:-1024] + broken(),
        "announces a size of b'9999",
    ),
    "record without an end": (broken(kind=b"x", content=b"11 size=900")[:-1024] + broken(), "an extended header"),
    "record of length 0": (broken(kind=b"x", content=b"0 size=9\n")[:-1024] + broken(), "an extended header"),
    "sparse, GNU": (broken(kind=b"S", content=b"x"), "holds 'a.png', a sparse file"),
    "sparse, POSIX": (broken(kind=b"x", content=PAX)[:-1024] + broken(content=b"x"), "holds 'a.png', a sparse file"),
    "symbolic link": (broken(kind=b"2"), "holds 'a.png', a symbolic link"),
    "hard link": (broken(kind=b"1"), "holds 'a.png', a hard link"),
    "device": (broken(kind=b"3"), "holds 'a.png', a device"),
    "two tar files in one": (broken(content=IMAGE) + broken(content=IMAGE), "has more after its end at byte 1024"),
    "unknown kind": (broken(kind=b"Q"), "holds 'a.png', of unknown kind b'Q'"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie_are_errors_that_name_the_shard(name, tmp_path):
    content, message = HEADERS[name]
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="shard") as error:
        index_shard(path)
    assert str(path) in str(error.value) and message in str(error.value)
    assert message in inspect(tmp_path)[2][0]


@pytest.mark.parametrize("text", [b"1_0", "\u0663".encode(), b"9" * 5000, b"", b"1.0", b"0x1", b"1" + bytes(1)])
def test_what_is_no_label_is_named(text, tmp_path, capsys):
    write_tar(tmp_path / "x.tar", [entry("a.png", IMAGE), entry("a.cls", text)])
    assert main([str(tmp_path), "--cache", str(tmp_path / "cache")]) == 1
    assert re.search(r"x\.tar: sample 'a' has (an empty )?\.cls", capsys.readouterr().err)
    assert look([str(tmp_path), "--sheet", str(tmp_path / "sheet.png")]) == 1
    assert (tmp_path / "sheet.png").is_file()


def test_a_label_may_end_its_line(tmp_path, capsys):
    write_tar(tmp_path / "x.tar", [entry("a.png", IMAGE), entry("a.cls", b" 1\n")])
    loader = BatchLoader(ShardDataset([adopted(tmp_path)], PLAIN), EvaluationBatches(1, 1))
    assert [batch.labels.tolist() for batch in loader] == [[1]]
    assert look([str(tmp_path), "--sheet", str(tmp_path / "sheet.png")]) == 0


def test_a_long_name_before_a_long_link_stays(tmp_path):
    path = tmp_path / "x.tar"
    parts = (broken(kind=b"L", content=b"name.png")[:-1024], broken(kind=b"K", content=b"target")[:-1024], broken())
    path.write_bytes(b"".join(parts))
    assert [sample.key for sample in index_shard(path)] == ["name"]


def test_what_is_no_file_is_refused_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "x.tar")
    for use in (index_shard, lambda path: inspect(path), lambda path: adopted(path.parent)):
        with pytest.raises(OSError, match=r"x\.tar is a FIFO; expected a regular file"):
            use(tmp_path / "x.tar")
    (tmp_path / "y").mkdir()
    (tmp_path / "y/x.tar").symlink_to("/dev/zero")
    with pytest.raises(OSError, match=r"x\.tar is a device; expected a regular file"):
        adopted(tmp_path / "y")
    with pytest.raises(OSError, match="is a folder"):
        index_shard(tmp_path / "y")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("absent.json")], ids=["pipe", "link"])
def test_a_manifest_that_cannot_be_read_is_not_passed_over(tmp_path, make, capsys):
    write_tar(tmp_path / "x.tar", members("a", 0))
    make(tmp_path / NAME)
    for command in (main, look):
        assert command([str(tmp_path)]) == 1
        assert "manifest.json is no file, or a link that leads nowhere" in capsys.readouterr().err
    with pytest.raises(OSError, match="leads nowhere"):
        ShardFolder(tmp_path)


def test_names_that_are_not_utf8_are_named_before_the_first_batch(tmp_path):
    write_tar(tmp_path / "x.tar", members("a\udcff", 0), format=tarfile.GNU_FORMAT, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"x\.tar holds 'a\\udcff\.png', expected a name in UTF-8"):
        adopted(tmp_path)
    write_tar(tmp_path / "x.tar", members("a\x1b[31m", 0))
    with pytest.raises(ValueError, match=r"x\.tar holds 'a\\x1b\[31m\.png'"):
        adopted(tmp_path)


def test_what_belongs_to_no_sample_is_counted_and_named(tmp_path, caplog):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "x.tar", [*members("a", 0), *JUNK])
    assert len(read_contents(folder / "x.tar").passed_over) == len(JUNK)
    assert len(adopted(folder)) == 1
    assert "7 (./d/, old/, ._a.png, ...)" in caplog.text
    assert ("passed over", "7 (./d/, old/, ._a.png, ...)") in describe(*inspect(folder)[:2])


def test_names_with_dots_are_named(tmp_path, caplog):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "x.tar", [*members("a", 0), *members("a.v2", 0)])
    with pytest.raises(ValueError, match=r"x\.tar holds a sample 'a\.v2', expected names without dots"):
        adopted(folder)
    write_tar(folder / "x.tar", [*members("a", 0), entry("a.v2.png", IMAGE), entry("a.coarse.cls", b"1")])
    assert len(adopted(folder)) == 1
    assert "not read for a dot in their names: 1 (a.v2.png)" in caplog.text
    write_tar(folder / "x.tar", [entry("a.v2.png", IMAGE), entry("a.cls", b"0")])
    with pytest.raises(ValueError, match=r"'a' has no image, .*; it has \.v2\.png, \.cls"):
        adopted(folder)


def test_what_a_sample_has_is_listed(tmp_path):
    folder = write_folder(tmp_path / "shards", train=4, val=1, size=8) / "train"
    rewrite(folder / "000000.tar", "s00001", cls=None)
    with pytest.raises(ValueError, match=r"'s00001' .* has no \.cls, it has \.png, \.heatmap\.png;"):
        ShardDataset(folder, PLAIN)[Position(1, 0)]
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
def test_compressed_shards_are_named_not_left_out(tmp_path, name, capsys):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "a.tar", members("a", 0))
    write_tar(folder / "B.TAR", members("b", 0))
    assert len(adopted(folder)) == 2
    (folder / name).write_bytes(b"")
    assert main([str(folder)]) == 1
    assert f"expected .tar, got 1 ({name}); decompress them" in capsys.readouterr().err
