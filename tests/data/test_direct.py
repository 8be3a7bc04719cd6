"""Images that are read directly give the same samples as their converted shards, and are checked beforehand."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from harmonizer.data.convert.cli import main
from harmonizer.data.datamodule import ShardData
from harmonizer.data.direct import check

SIZES = [(60, 40), (48, 64), (50, 50)]
CLASSES = ["ant", "bee", "cat"]
SETTINGS = {"model": "test_resnet", "batch_size": 4, "image_size": 32}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def draw(index, size, channels=3):
    small = np.random.default_rng(index).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    return Image.fromarray(small.squeeze()).resize(size)


def write_images(root, count=9, classes=CLASSES, sizes=SIZES):
    """Write images/CLASS/NAME as JPEG and PNG; one has an EXIF orientation."""
    for index in range(count):
        folder = root / "images" / classes[index % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        image, exif = draw(index, sizes[index // 3 % len(sizes)]), Image.Exif()
        if index == 3:
            exif[0x0112] = 6
            image = image.transpose(Image.Transpose.ROTATE_90)
        image.save(folder / (f"i{index}.jpg" if index % 2 else f"i{index}.png"), exif=exif)
    return root


def write_maps(root, kind, skip=(4,), sizes=SIZES, count=9, classes=CLASSES):
    for index in set(range(count)) - set(skip):
        folder = root / "maps" / classes[index % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        values = np.asarray(draw(100 + index, sizes[index // 3 % len(sizes)], 1))
        if kind == "png":
            Image.fromarray(values).save(folder / f"i{index}.png")
        else:
            np.save(folder / f"i{index}.npy", values if kind == "npy" else values / 255)
    return root


def samples(place, **settings):
    """Return images, labels, maps and keys of all validation batches."""
    data = ShardData(place, **SETTINGS | settings)
    batches = list(data.val_dataloader())
    tensors = [torch.cat([getattr(batch, name) for batch in batches]) for name in ("images", "labels", "human_map")]
    return [*tensors, [key for batch in batches for key in batch.keys], data]


def assert_same(found, expected):
    for a, b in zip(found[:3], expected[:3], strict=True):
        assert torch.equal(a, b)
    assert found[3] == expected[3]
    assert found[4].classes == expected[4].classes


@pytest.fixture
def own(tmp_path):
    return write_maps(write_images(tmp_path / "own"), "npy")


@pytest.fixture
def shards(own, tmp_path):
    def convert(*options):
        place = tmp_path / "shards"
        arguments = [str(own / "images"), "--out", str(place / "val"), "--maps", str(own / "maps"), "--workers", "1"]
        assert main([*arguments, "--allow-missing-map", *map(str, options)]) == 0
        return place

    return convert


def test_class_folders_give_the_samples_of_their_shards(own, shards, capsys):
    place = shards("--prepare", "none")
    capsys.readouterr()
    found, expected = samples(own), samples(place)
    assert_same(found, expected)
    assert sum(shard.maps for shard in found[4].manifest.shards) == 8
    assert found[4].manifest.maps == expected[4].manifest.maps
    said = capsys.readouterr().out
    assert f"note: {own}: 3 classes in alphabetical order" in said
    assert f"note: {own}: 8 of 9 images have a human map (none: as in the source)" in said
    assert_same(samples(own, num_workers=2, start_method="spawn"), expected)


@pytest.mark.parametrize("kind", ["png", "float"])
def test_png_and_float_maps_give_the_same_values(kind, own, tmp_path):
    expected = samples(own)
    shutil.rmtree(own / "maps")
    found = samples(write_maps(own, kind))
    if kind == "png":
        assert_same(found, expected)
        assert found[4].manifest.digest() == expected[4].manifest.digest()
    torch.testing.assert_close(found[2], expected[2], atol=1e-4, rtol=0)


def test_a_table_gives_the_samples_of_its_folders(own):
    expected = samples(own)
    lines = ["label,map,image"]
    for path in sorted((own / "images").rglob("i*"), key=lambda path: (path.parent, path.name)):
        human = own / "maps" / path.parent.name / f"{path.stem}.npy"
        lines.append(f"{path.parent.name},{human.relative_to(own) if human.exists() else ''},{path.relative_to(own)}")
    (own / "table.csv").write_text("\n".join(lines))
    found = samples(own / "table.csv")
    assert found[3] == [f"images-{key}" for key in expected[3]]
    assert_same([*found[:3], expected[3], found[4]], expected)
    (own / "table.csv").write_text("\n".join(lines).replace("ant,", "0,").replace("bee,", "1,").replace("cat,", "2,"))
    numbered = samples(own / "table.csv", classes=3)
    assert torch.equal(numbered[1], expected[1])
    with pytest.raises(ValueError, match=r"labels are numbers; name them with data.classes \(a number"):
        samples(own / "table.csv")


def test_maps_are_found_by_setting_or_next_to_the_split(own, tmp_path):
    expected = samples(own)
    (own / "maps").rename(tmp_path / "elsewhere")
    assert_same(samples(own / "images", maps=str(tmp_path / "elsewhere")), expected)
    (tmp_path / "split").mkdir()
    (own / "images").rename(tmp_path / "split/val")
    assert samples(tmp_path / "split")[2].count_nonzero() == 0
    (tmp_path / "elsewhere").rename(tmp_path / "split/val_maps")
    assert_same(samples(tmp_path / "split"), expected)


def test_classes_have_the_converters_order(tmp_path, capsys):
    numbered = samples(write_images(tmp_path / "numbers", classes=["10", "2", "9"]) / "images")
    assert numbered[4].classes == ("2", "9", "10")
    assert "3 classes in the order of their numbers; labels count from 0 without gaps, so 2 is label 0" in (
        capsys.readouterr().out
    )
    synsets = write_images(tmp_path / "synsets", classes=["n01443537", "n01440764", "n01484850"]) / "images"
    assert samples(synsets)[4].classes == ("n01440764", "n01443537", "n01484850")
    assert "labels from 0; data.classes=imagenet gives them ImageNet's labels" in capsys.readouterr().out
    found = samples(synsets, classes="imagenet")
    assert (len(found[4].classes), sorted(set(found[1].tolist()))) == (1000, [0, 1, 2])


@pytest.mark.parametrize("size", [256, 224])
def test_maps_of_clickmes_sizes_are_prepared_as_converted(size, tmp_path):
    own = write_maps(write_images(tmp_path / "own", sizes=[(size, size)]), "npy", sizes=[(size, size)])
    arguments = [str(own / "images"), "--maps", str(own / "maps"), "--allow-missing-map", "--workers", "1"]
    for method in ("fel2022", "gaussian", "none"):
        assert main([*arguments, "--prepare", method, "--out", str(tmp_path / method / "val")]) == 0
    expected = {method: samples(tmp_path / method) for method in ("fel2022", "gaussian", "none")}
    for method in (None, *expected):
        found = samples(own, prepare=method)
        assert_same(found, expected[method or "fel2022"])
        assert found[4].manifest.maps == expected[method or "fel2022"][4].manifest.maps
        assert_same(samples(own, prepare=method), expected[method or "fel2022"])  # from the cache


def test_maps_of_unsupported_sizes_need_prepare_none(tmp_path):
    sizes = [(256, 256), (300, 200)]
    own = write_maps(write_images(tmp_path / "own", sizes=sizes), "png", sizes=sizes)
    message = (
        r"data.prepare=fel2022 accepts maps of 256x256 and keeps those of 224x224, got 2 of 300x200; 6 of 8 fit; "
        r"try data.prepare=none, which keeps all maps unchanged"
    )
    with pytest.raises(ValueError, match=message):
        samples(own)
    with pytest.raises(ValueError, match=message.replace("fel2022", "gaussian")):
        samples(own, prepare="gaussian")
    assert samples(own, prepare="none")[4].manifest.maps == "none: as in the source"


def test_stacks_give_the_converters_ceilings(tmp_path):
    own, rng = write_images(tmp_path / "own"), np.random.default_rng(0)
    for index in range(9):
        folder = own / "maps" / CLASSES[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        width, height = SIZES[index // 3]
        np.save(folder / f"i{index}.npy", rng.random((1, height, width)) + rng.random((4, height, width)))
    with pytest.raises(ValueError, match=r"try data.stack=participants"):
        samples(own)
    options = ["--stack", "participants", "--prepare", "none", "--workers", "1"]
    assert main([str(own / "images"), "--maps", str(own / "maps"), "--out", str(tmp_path / "s/val"), *options]) == 0
    found, expected = samples(own, stack="participants"), samples(tmp_path / "s")
    assert_same(found, expected)
    assert found[4].manifest.ceilings == expected[4].manifest.ceilings != None  # noqa: E711


def test_every_process_reads_its_share(own, monkeypatch):
    whole = samples(own)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(ShardData, "_place", lambda self, rank=rank: (rank, 2))
        shares.append(samples(own)[3])
    assert shares == [whole[3][0::2], whole[3][1::2]]


def test_unchanged_files_are_checked_once(own, monkeypatch):
    digest = samples(own)[4].manifest.digest()
    monkeypatch.setattr(check, "measure_ceilings", lambda folder: pytest.fail("checked again"))
    assert samples(own)[4].manifest.digest() == digest
    draw(7, (60, 40)).save(own / "images/ant/i0.png")
    with pytest.raises(pytest.fail.Exception):
        samples(own)
    monkeypatch.undo()
    assert samples(own)[4].manifest.digest() != digest


def test_training_accepts_folders_and_tables(tmp_path):
    for split in ("train", "val"):
        write_maps(write_images(tmp_path / split), "npy")
    data = ShardData(tmp_path, **SETTINGS, flip=0.5, crop_scale=(0.5, 1))
    data.require_maps()
    first = [batch.keys for batch in data.train_dataloader()]
    assert [len(keys) for keys in first] == [4, 4]
    assert first == [batch.keys for batch in ShardData(tmp_path, **SETTINGS, num_workers=2).train_dataloader()]
    (tmp_path / "tables").mkdir()
    for split in ("train", "val"):
        files = sorted(shutil.copytree(tmp_path / split / "images", tmp_path / "tables" / f"{split}-files").rglob("i*"))
        rows = [f"{path.relative_to(tmp_path / 'tables')},{path.parent.name}" for path in files]
        (tmp_path / "tables" / f"{split}.csv").write_text("\n".join(["image,label", *rows]))
    tables = ShardData(tmp_path / "tables", **SETTINGS)
    assert sum(len(batch.keys) for batch in tables.train_dataloader()) == 8
    with pytest.raises(ValueError, match=r"expected human maps to harmonize with, but none of the 9 samples"):
        tables.require_maps()


def test_shards_and_image_folders_can_be_mixed(own, shards, tmp_path):
    place = shards("--prepare", "none")
    shutil.copytree(place / "val", place / "train")
    (tmp_path / "direct").mkdir()
    shutil.copytree(own, tmp_path / "direct/train")
    sources = [{"folder": str(place), "weight": 1}, {"folder": str(tmp_path / "direct"), "weight": 1}]
    keys = [key for batch in ShardData(sources=sources, **SETTINGS).train_dataloader() for key in batch.keys]
    assert len(set(keys)) == len(keys) == 16
    assert {key.rpartition("/")[0].startswith(str(place)) for key in keys} == {True, False}


def test_shards_take_precedence_over_images(own, shards, capsys):
    place = shards("--prepare", "none")
    shutil.copytree(own / "images/ant", place / "val/ant")
    assert samples(place)[4].manifest.samples == 9
    assert f"holds shards and images, such as {place}/val/ant/i0.png; the shards are read" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"data.prepare=none is for images that are not shards"):
        samples(place, prepare="none")


def test_damaged_images_are_skipped_and_counted(own):
    whole = samples(own)
    content = (own / "images/bee/i4.png").read_bytes()
    (own / "images/bee/i4.png").write_bytes(content[: len(content) // 2])
    (own / "images/cat/away.png").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match=r"away.png: is a symbolic link to"):
        samples(own)
    found = samples(own, on_error="skip")
    assert found[3] == [key for key in whole[3] if key != "bee-i4"]
    assert (found[4].manifest.samples, found[4].skipped) == (10, 2)
    (own / "images/cat/away.png").unlink()
    with pytest.raises(ValueError, match=r"i4.png: cannot decode the image"):
        samples(own)
