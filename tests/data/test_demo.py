"""The demo data: the same bytes on every run, balanced classes, and a shortcut in training only."""

import io
import json
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from harmonizer.data.dataset import SampleIndex, ShardDataset
from harmonizer.data.demo import dataset as demo
from harmonizer.data.demo.render import SIZE, oklch, paint
from harmonizer.data.demo.shapes import SHAPES
from harmonizer.data.demo.textures import TEXTURES
from harmonizer.data.transforms import JointTransform

SMALL = {"train": 240, "val": 100}
TINY = {"train": 12, "val": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return demo.draw(tmp_path_factory.mktemp("demo") / "data", SMALL)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(demo, "SIZES", TINY)


def members(folder: Path) -> dict[str, bytes]:
    content = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            content |= {member.name: tar.extractfile(member).read() for member in tar}
    return content


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def labels_and_textures(folder: Path) -> list[tuple[int, int]]:
    content = members(folder)
    names = [name.removesuffix(".cls") for name in content if name.endswith(".cls")]
    texture = {name: json.loads(content[f"{name}.json"])["texture"] for name in names}
    return [(int(content[f"{name}.cls"]), demo.BACKGROUNDS.index(texture[name])) for name in names]


def test_every_run_draws_the_same_bytes(folder, tmp_path):
    again = demo.draw(tmp_path / "again", TINY)
    assert files(again) == files(demo.draw(tmp_path / "once more", TINY))
    whole = members(folder / "train")
    assert all(whole[name] == content for name, content in members(again / "train").items())


def test_splits_are_read_back_with_unique_keys(folder):
    keys = []
    for split, size in SMALL.items():
        dataset = ShardDataset(folder / split, JointTransform(SIZE))
        assert len(dataset) == size
        for index in (0, size - 1):
            item = dataset[SampleIndex(index, 0)]
            assert item.image.shape == (3, SIZE, SIZE)
            assert item.has_map == (float(item.human_map.max()) == 1.0)
        keys += [dataset.folders[0].read(number).key for number in range(size)]
    assert len(set(keys)) == sum(SMALL.values())


def test_classes_are_balanced(folder):
    for split, size in SMALL.items():
        counts = Counter(label for label, _ in labels_and_textures(folder / split))
        assert counts == dict.fromkeys(range(len(SHAPES)), size // len(SHAPES))


def test_the_shortcut_holds_in_training_only(folder):
    train = labels_and_textures(folder / "train")
    share = demo.SHORTCUT + (1 - demo.SHORTCUT) / len(TEXTURES)
    error = (share * (1 - share) / len(train)) ** 0.5
    assert np.mean([label == texture for label, texture in train]) == pytest.approx(share, abs=4 * error)
    pairs = Counter(labels_and_textures(folder / "val"))
    assert pairs == {(label, texture): 1 for label in range(len(SHAPES)) for texture in range(len(TEXTURES))}


def test_a_fifth_of_the_training_samples_has_no_map(folder):
    mapped = {split: sum("heatmap" in name for name in members(folder / split)) for split in SMALL}
    error = (demo.UNMAPPED * (1 - demo.UNMAPPED) / SMALL["train"]) ** 0.5
    assert 1 - mapped["train"] / SMALL["train"] == pytest.approx(demo.UNMAPPED, abs=4 * error)
    assert mapped["val"] == SMALL["val"]


@pytest.mark.parametrize("shape", SHAPES)
def test_people_click_on_the_object(shape):
    for seed in range(5):
        painting = paint(shape, "checks", np.random.default_rng(seed))
        inside = painting.coverage > 0.5
        near = binary_dilation(inside, iterations=8)  # two standard deviations of the click blur
        human = painting.human.astype(float)
        assert human.max() == 255
        assert human[near].sum() > 0.9 * human.sum()
        assert binary_dilation(inside, iterations=4)[np.unravel_index(human.argmax(), human.shape)]
        assert np.abs(np.diff(human, axis=0)).max() < 60  # smooth


@pytest.mark.parametrize("shape", SHAPES)
def test_the_object_is_whole_and_brighter_than_the_background(shape):
    for seed in range(5):
        painting = paint(shape, "waves", np.random.default_rng(seed))
        coverage = painting.coverage
        assert not coverage[[0, -1]].any()
        assert not coverage[:, [0, -1]].any()
        assert 0.03 < coverage.mean() < 0.4
        grey = painting.image.mean(2)
        assert grey[coverage > 0.9].mean() > grey[coverage == 0].mean() + 25


def test_textures_differ():
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    drawn = [texture(x, y, np.random.default_rng(0)) for texture in TEXTURES.values()]
    for index, one in enumerate(drawn):
        assert one.shape == (SIZE, SIZE)
        assert one.min() >= 0
        assert one.max() <= 1
        assert one.std() > 0.08
        assert all(abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.8 for other in drawn[:index])


def test_oklch_gives_known_srgb_colours():
    np.testing.assert_allclose(oklch(1, 0, 0), 1, atol=1e-3)
    np.testing.assert_allclose(oklch(0.627955, 0.257683, 29.2339 / 360), [1, 0, 0], atol=1e-3)  # sRGB red


def test_undamaged_data_are_reused(tiny, tmp_path, caplog):
    folder = demo.ensure_demo(tmp_path)
    assert "once" in caplog.text
    inode = folder.stat().st_ino
    caplog.clear()
    assert demo.ensure_demo(tmp_path) == folder
    assert folder.stat().st_ino == inode
    assert not caplog.text


def damage_byte(folder: Path) -> None:
    shard = folder / "train" / "000000.tar"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)


def remove_manifest(folder: Path) -> None:
    (folder / "val" / "manifest.json").unlink()


def remove_shard(folder: Path) -> None:
    (folder / "val" / "000000.tar").unlink()


def draw_other_size(folder: Path) -> None:
    demo.draw(folder.with_name("other"), {"train": 11, "val": 10}).joinpath("train").rename(folder / "new")
    (folder / "train").rename(folder / "old")
    (folder / "new").rename(folder / "train")


@pytest.mark.parametrize("damage", [damage_byte, remove_manifest, remove_shard, draw_other_size])
def test_damaged_data_are_drawn_again(tiny, tmp_path, caplog, damage):
    folder = demo.ensure_demo(tmp_path)
    whole = files(folder)
    damage(folder)
    caplog.clear()
    assert demo.ensure_demo(tmp_path) == folder
    assert "the demo data are damaged" in caplog.text
    assert files(folder) == whole
    assert not list(tmp_path.glob(".*"))  # no temporary files remain


def test_concurrent_calls_draw_one_dataset(tiny, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: demo.ensure_demo(tmp_path), range(4)))
    assert set(made) == {tmp_path / f"demo-{demo.VERSION}"}
    assert {path.name for path in tmp_path.iterdir()} == {f"demo-{demo.VERSION}"}
    assert demo._damage(made[0], TINY) is None


def test_an_interruption_leaves_no_files(tiny, tmp_path, monkeypatch):
    def interrupted(split, size):
        for index, sample in enumerate(whole(split, size)):
            if index == 5:
                raise KeyboardInterrupt
            yield sample

    whole = demo._samples
    monkeypatch.setattr(demo, "_samples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.ensure_demo(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_cache_folder_comes_from_the_environment(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONIZER_CACHE", str(tmp_path))
    assert demo.ensure_demo().parent == tmp_path


def test_images_are_rgb_and_maps_grey_of_one_size(folder):
    for name, content in members(folder / "val").items():
        if name.endswith("png"):
            picture = Image.open(io.BytesIO(content))
            assert (picture.size, picture.mode) == ((SIZE, SIZE), "L" if "heatmap" in name else "RGB")
