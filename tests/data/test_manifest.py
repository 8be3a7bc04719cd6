"""Manifests: written and read, refused when damaged, and made for shards of other tools."""

import io
import json
import os
import tarfile

import pytest

from harmonizer.data.adopt import load_manifest, main
from harmonizer.data.shards.manifest import Ceilings, Manifest, Shard, read_manifest, write_manifest
from harmonizer.files import file_sha256

SHARDS = (Shard("000000.tar", 3, 1, "ab"), Shard("000001.tar", 2, 0, "cd"))
CEILINGS = Ceilings(20, 0.5, None, {"x": 0.5, "y": None})


@pytest.mark.parametrize("ceilings", [None, CEILINGS])
def test_a_manifest_is_read_as_it_was_written(tmp_path, ceilings):
    manifest = Manifest(("a", "b"), "fel2022", SHARDS, ceilings=ceilings)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert manifest.samples == 5
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_the_digest_depends_on_the_content_only():
    manifest = Manifest(("a", "b"), "fel2022", SHARDS)
    others = [
        Manifest(("a", "c"), "fel2022", SHARDS),
        Manifest(("a", "b"), "none", SHARDS),
        Manifest(("a", "b"), "fel2022", SHARDS[::-1]),
        Manifest(("a", "b"), "fel2022", SHARDS, ceilings=CEILINGS),
    ]
    assert len({one.digest() for one in [manifest, *others]}) == 5
    assert manifest.digest() == Manifest(("a", "b"), "fel2022", SHARDS).digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("classes"), "classes"),
        (lambda content: content.update(classes="ab"), "classes must be a list"),
        (lambda content: content.update(maps=None), "maps: expected a text"),
        (lambda content: content.update(version=99), "expected version 1"),
        (lambda content: content["shards"][0].pop("sha256"), "sha256"),
        (lambda content: content["shards"][0].update(samples="3"), "samples is '3'"),
        (lambda content: content.update(shards=5), "wrong field"),
        (lambda content: content["ceilings"].update(floor="low"), "floor is 'low'"),
        (lambda content: content["ceilings"].update(per_image=[1]), "per_image"),
    ],
)
def test_damaged_manifests_are_refused(tmp_path, change, message):
    write_manifest(tmp_path, Manifest(("a", "b"), "fel2022", SHARDS, ceilings=CEILINGS))
    content = json.loads((tmp_path / "manifest.json").read_text())
    change(content)
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        read_manifest(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_cut_and_missing_manifests_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(FileNotFoundError, match="no data folder"):
        read_manifest(tmp_path / "absent")
    (tmp_path / "manifest.json").write_text('{"classes": [')
    with pytest.raises(ValueError, match="not valid JSON"):
        read_manifest(tmp_path)


def write_tar(path, samples):
    """Write a shard as other tools do: key -> extension -> bytes."""
    with tarfile.open(path, "w") as archive:
        for key, members in samples.items():
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def foreign(tmp_path, encode):
    """ImageNet in its usual layout (jpg, cls, json), in a folder that must not be written to."""
    folder = tmp_path / "imagenet"
    folder.mkdir()
    for shard, count in ((10, 2), (2, 3)):
        samples = {
            f"{shard:04d}{n}": {"JPEG" if n else "jpg": encode(32, 48), "cls": b"%d" % (shard + n), "json": b"{}"}
            for n in range(count)
        }
        write_tar(folder / f"train-{shard}.tar", {k: {e.lower(): b for e, b in m.items()} for k, m in samples.items()})
    return folder


def written(folder):
    """Return what writing to any file of a folder would change; reading changes only the access time."""
    stats = {path: path.stat() for path in folder.iterdir()}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def test_foreign_shards_get_a_manifest_in_the_cache(foreign, tmp_path):
    before = written(foreign)
    manifest = load_manifest(foreign, cache=tmp_path / "cache")
    assert [(shard.file, shard.samples, shard.maps) for shard in manifest.shards] == [
        ("train-2.tar", 3, 0),
        ("train-10.tar", 2, 0),
    ]
    assert manifest.shards[0].sha256 == file_sha256(foreign / "train-2.tar")
    assert manifest.classes == tuple(str(number) for number in range(12))
    assert manifest.maps == "no maps"
    assert written(foreign) == before
    named = load_manifest(foreign, cache=tmp_path / "cache", classes=["x"] * 1000)
    assert len(named.classes) == 1000


def test_the_cache_is_used_until_the_folder_changes(foreign, tmp_path):
    read = []
    first = load_manifest(foreign, cache=tmp_path / "cache", advance=read.append)
    assert load_manifest(foreign, cache=tmp_path / "cache", advance=read.append) == first
    assert len(read) == 2
    (foreign / "train-10.tar").unlink()
    assert load_manifest(foreign, cache=tmp_path / "cache").samples == 3


def test_a_manifest_next_to_the_shards_takes_precedence(foreign, tmp_path):
    manifest = Manifest(("a", "b"), "fel2022", SHARDS)
    write_manifest(foreign, manifest)
    assert load_manifest(foreign, cache=tmp_path / "cache") == manifest
    assert not (tmp_path / "cache").exists()


def test_damaged_foreign_shards_are_refused(foreign, tmp_path, encode):
    shard = foreign / "train-10.tar"
    whole = shard.read_bytes()
    last = whole.rstrip(b"\0")
    cases = {
        "cut at a block boundary": whole[: -(-len(last) // 512) * 512],
        "cut in the data": whole[:2000],
        "no tar file": b"text" * 500,
    }
    for name, content in cases.items():
        shard.write_bytes(content)
        with pytest.raises(ValueError, match=r"train-10\.tar"):
            load_manifest(foreign, cache=tmp_path / "cache")
        assert not (tmp_path / "cache").exists(), name
    for members, message in (
        ({"jpg": encode(8, 8)}, "sample 'k' has no .cls"),
        ({"cls": b"1"}, "sample 'k' has no image"),
        ({"jpg": encode(8, 8), "cls": b"cat"}, "expected an integer"),
        ({"jpg": encode(8, 8), "cls": b"-1"}, "label -1, out of range"),
    ):
        write_tar(shard, {"k": members})
        with pytest.raises(ValueError, match=message):
            load_manifest(foreign, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="label 3, out of range of 3 classes"):
        load_manifest(foreign, cache=tmp_path / "cache", classes=["a", "b", "c"])
    with pytest.raises(FileNotFoundError, match="holds no manifest"):
        load_manifest(tmp_path)


def test_the_command_writes_a_manifest_or_reports_damage(foreign, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert main([str(foreign), "--classes", "imagenet"]) == 0
    assert "5 samples, 0 with maps, in 2 shards, 1000 classes" in capsys.readouterr().out
    assert len(list((tmp_path / "xdg" / "harmonizer" / "manifests").glob("*/manifest.json"))) == 1
    os.truncate(foreign / "train-2.tar", 700)
    assert main([str(foreign)]) == 1
    assert "train-2.tar" in capsys.readouterr().err
