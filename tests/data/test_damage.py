"""Damaged shards and samples: an error names them, or they are skipped and counted; never silently."""

import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image
from shard_data import png, rewrite

from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.loader import BatchLoader, TrainLoader
from harmonizer.data.sampling import EvaluationBatches, TrainBatches
from harmonizer.data.shards.reader import ShardFolder
from harmonizer.data.shards.tar_index import read_contents
from harmonizer.data.transforms import JointTransform

KEY = "s00009"  # the damaged sample, the second of shard 000001.tar
PLAIN = JointTransform(32)


def jpeg(mode="RGB", cut=None):
    buffer = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(buffer, "jpeg")
    return buffer.getvalue()[:cut]


def member(shard, number):
    with tarfile.open(shard) as archive:
        return archive.getmembers()[number]


def edit(function):
    """Return a function that changes the bytes of a shard."""

    def damage(shard):
        shard.write_bytes(function(bytearray(shard.read_bytes()), shard))

    return damage


def flip(position):
    def change(content, shard):
        content[position(shard)] ^= 0x20
        return content

    return edit(change)


# Whole shards: the damage and the reason in the message. A damaged shard is never skipped.
SHARDS = {
    "missing": (lambda shard: shard.unlink(), "is missing"),
    "empty": (edit(lambda content, shard: b""), "not a readable tar file"),
    "text": (edit(lambda content, shard: b"no tar file at all" * 100), "not a readable tar file"),
    "cut at a member": (edit(lambda c, shard: c[: member(shard, 6).offset]), r"holds \d samples, the manifest says 8"),
    "cut in a member": (edit(lambda c, shard: c[: member(shard, 7).offset_data + 20]), "cut short in 's000"),
    "cut in a header": (edit(lambda c, shard: c[: member(shard, 7).offset + 200]), r"is damaged \(no header at byte"),
    "no end marker": (edit(lambda c, shard: c[: member(shard, 3).offset] + bytes(1024)), "the manifest says 8"),
    "flipped byte in a name": (flip(lambda shard: member(shard, 7).offset + 3), r"is damaged \(no header at byte"),
    "flipped byte in a size": (flip(lambda shard: member(shard, 7).offset + 130), r"is damaged \(no header at byte"),
    "flipped byte in the first header": (flip(lambda shard: 5), "not a readable tar file"),
    "one sample more": (lambda shard: rewrite(shard, KEY, **{"x.cls": b"1"}) or add(shard), "holds 9 samples"),
}

# One sample: its changed members and the reason in the message.
SAMPLES = {
    "label too large": ({"cls": b"3"}, "label 3 is out of range; the manifest names 3 classes"),
    "label negative": ({"cls": b"-1"}, "label -1 is out of range"),
    "label as text": ({"cls": b"cat"}, "expected an integer"),
    "label empty": ({"cls": b""}, "expected an integer"),
    "no label": ({"cls": None}, "has no .cls"),
    "no image": ({"png": None}, "has no image"),
    "image empty": ({"png": b""}, "cannot decode .png"),
    "image of noise": ({"png": b"\x89PNG\r\n\x1a\nbroken"}, "cannot decode .png"),
    "PNG cut": ({"png": png(np.eye(32, dtype=np.uint8))[:-20]}, "cannot decode .png"),
    "JPEG cut": ({"png": None, "jpg": jpeg(cut=-40)}, "cannot decode .jpg"),
    "JPEG without its header": ({"png": None, "jpg": jpeg()[30:]}, "cannot decode .jpg"),
    "image of 16 bits": ({"png": png(np.zeros((32, 32), np.uint16))}, "it has mode I;16, expected 8 bits"),
    "map of noise": ({"heatmap.png": b"broken"}, "cannot decode .heatmap.png"),
    "map cut": ({"heatmap.png": png(np.eye(32, dtype=np.uint8))[:-20]}, "cannot decode .heatmap.png"),
    "map of another shape": ({"heatmap.png": png(np.zeros((4, 8), np.uint8))}, r"human map \(8, 4\) pixels"),
    "map in colour": ({"heatmap.png": png(np.zeros((32, 32, 3), np.uint8))}, "mode RGB, expected 8- or 16-bit grey"),
}


def add(shard):
    with tarfile.open(shard, "a") as archive:
        archive.addfile(tarfile.TarInfo("another.cls"))


@pytest.mark.parametrize("on_error", ["fail", "skip"])
@pytest.mark.parametrize("name", SHARDS)
def test_a_damaged_shard_is_an_error_not_a_shorter_epoch(name, on_error, folder):
    damage, reason = SHARDS[name]
    damage(folder / "000001.tar")
    with pytest.raises((ValueError, FileNotFoundError), match=rf"000001\.tar .*{reason}"):
        ShardDataset(folder, PLAIN, on_error=on_error)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_damaged_sample_is_an_error_or_skipped_and_counted(name, folder, caplog):
    changes, reason = SAMPLES[name]
    rewrite(folder / "000001.tar", KEY, **changes)
    with pytest.raises(ValueError, match=reason) as error:
        ShardDataset(folder, PLAIN)[SampleIndex(9, 0)]
    assert f"{KEY!r} of {folder}/000001.tar" in str(error.value)
    with pytest.raises(ValueError, match=reason):
        list(BatchLoader(ShardDataset(folder, PLAIN), EvaluationBatches(20, 8)))

    dataset = ShardDataset(folder, PLAIN, on_error="skip")
    loader = BatchLoader(dataset, EvaluationBatches(20, 4))
    for _ in range(2):
        batches = list(loader)
        assert loader.skipped == 1
        assert [len(batch.keys) for batch in batches] == [4, 4, 3, 4, 4]
        assert [key for batch in batches for key in batch.keys] == [f"s{i:05d}" for i in range(20) if i != 9]
    whole, part = dataset[SampleIndex(10, 0)], batches[2]
    assert part.images[1].equal(whole.image) and part.human_map[1].equal(whole.human_map)
    assert len(part.images) == len(part.human_map) == len(part.labels) == len(part.has_map) == 3
    assert f"skipped: sample {KEY!r}" in caplog.text
    training = TrainLoader(dataset, TrainBatches(20, 4, seed=0))
    assert sum(len(batch.keys) for batch in training) == 19
    assert training.skipped == 1


def test_changed_bytes_are_found_with_verify(folder):
    ShardFolder(folder, verify=True)
    flip(lambda shard: member(shard, 2).offset_data + 50)(folder / "000001.tar")
    ShardFolder(folder)
    with pytest.raises(ValueError, match=r"000001.tar has changed: its sha256 is not that of the manifest"):
        ShardFolder(folder, verify=True)


def test_nothing_is_unpickled(folder, tmp_path):
    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self):
            return open, (str(mark), "w")

    code = pickle.dumps(Evil())
    kinds = ("pyd", "pkl", "pickle", "pth", "pt", "npy", "json", "ten", "mp")
    rewrite(folder / "000001.tar", KEY, **dict.fromkeys(kinds, code))
    dataset = ShardDataset(folder, PLAIN)
    for number in range(20):
        dataset[SampleIndex(number, 0)]
    assert not mark.exists()
    rewrite(folder / "000001.tar", KEY, cls=code)
    with pytest.raises(ValueError, match="expected an integer"):
        dataset = ShardDataset(folder, PLAIN)
        dataset[SampleIndex(9, 0)]
    assert not mark.exists()


def test_member_names_of_every_tar_dialect_are_read(tmp_path):
    long = "d" * 90 + "/" + "e" * 60 + "/" + "k" * 120
    for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        names = ["a/b.jpg", "a/b.cls", "ü.jpg", "d" * 80 + "/" + "e" * 60 + ".jpg"]
        names += [] if dialect == tarfile.USTAR_FORMAT else [f"{long}.jpg", f"{long}.heatmap.png"]
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w", format=dialect) as archive:
            folder = tarfile.TarInfo("a")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            for number, name in enumerate(names):
                info = tarfile.TarInfo(name)
                info.size = 100 * number
                info.pax_headers = {"comment": "x" * 30} if dialect == tarfile.PAX_FORMAT else {}
                archive.addfile(info, io.BytesIO(bytes([number]) * info.size))
        found = {
            f"{sample.key}.{extension}": tuple(place)
            for sample in read_contents(path).samples
            for extension, place in sample.members.items()
        }
        with tarfile.open(path) as archive:
            assert found == {info.name: (info.offset_data, info.size) for info in archive if info.isfile()}


def test_wrong_dataset_settings_are_refused(folder):
    with pytest.raises(ValueError, match="on_error fail or skip"):
        ShardDataset(folder, PLAIN, on_error="ignore")
    with pytest.raises(ValueError, match="mixup >= 0"):
        ShardDataset(folder, PLAIN, mixup=-1)
