"""The converter's sources and options; its shards are read back with the standard library."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from tf_records import build_example, read_records, write_records
from timm.data.imagenet_info import ImageNetInfo

from harmonizer.data import prepare_human_map
from harmonizer.data.class_names import imagenet_classes
from harmonizer.data.convert.readers.tf_example import parse_example
from harmonizer.data.shards.manifest import read_manifest


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def map_255(sample: dict[str, bytes]) -> np.ndarray:
    """Decode a 16-bit map and scale it to 0-255."""
    grey = picture(sample["heatmap.png"])
    assert grey.dtype == np.uint16
    return grey / 257


def test_golden_records_keep_jpegs_and_published_maps(convert, read_shards, golden_tfrecord, golden_clickme, tmp_path):
    assert convert(golden_tfrecord, "--out", tmp_path / "out") == (0, "")
    samples = read_shards(tmp_path / "out")
    assert list(samples) == [f"clickme_1-{number:05d}" for number in range(5)]
    payloads = list(read_records(golden_tfrecord))
    for sample, payload, label, prepared in zip(
        samples.values(), payloads, golden_clickme["label"], golden_clickme["heatmap"], strict=True
    ):
        assert sample["jpg"] == parse_example(payload)["image"][0]  # not re-encoded
        assert int(sample["cls"]) == label
        np.testing.assert_allclose(map_255(sample), prepared[..., 0], atol=2e-3 * 255)
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.samples, manifest.shards[0].maps, len(manifest.classes)) == (5, 5, 1000)
    assert manifest.maps.startswith("fel2022")


def test_maps_follow_the_chosen_bits_and_preparation(convert, read_shards, golden_tfrecord, golden_clickme, tmp_path):
    convert(golden_tfrecord, "--out", tmp_path / "8", "--map-bits", "8")
    for sample, prepared in zip(read_shards(tmp_path / "8").values(), golden_clickme["heatmap"], strict=True):
        grey = picture(sample["heatmap.png"])
        assert grey.dtype == np.uint8
        np.testing.assert_allclose(grey, prepared[..., 0], atol=2e-3 * 255)
    convert(golden_tfrecord, "--out", tmp_path / "none", "--prepare", "none")
    convert(golden_tfrecord, "--out", tmp_path / "gaussian", "--prepare", "gaussian")
    none, gaussian = read_shards(tmp_path / "none"), read_shards(tmp_path / "gaussian")
    for key, payload in zip(none, read_records(golden_tfrecord), strict=True):
        raw = picture(parse_example(payload)["heatmap"][0])
        np.testing.assert_array_equal(map_255(none[key]), raw)
        expected = prepare_human_map(raw.astype(float), method="gaussian")
        np.testing.assert_allclose(map_255(gaussian[key]), expected, atol=0.002)


def raw_record(rng, size, *, scale):
    image = (rng.random((size, size, 3)) * 255).astype("<f4")
    human = (rng.random((size, size)) * scale).astype("<f4")
    return image, human, {"image": [image.tobytes()], "heatmap": [human.tobytes()]}


@pytest.mark.parametrize("scale", [255.0, 1.0, 3e-5, 4000.0])
def test_raw_float_records_of_both_sizes_are_converted(convert, read_shards, tmp_path, scale):
    rng = np.random.default_rng(0)
    image_b, human_b, b = raw_record(rng, 256, scale=scale)
    image_c, human_c, c = raw_record(rng, 224, scale=scale)
    payloads = [build_example(b | {"label": [5], "click_count": [17]}), build_example(c | {"label": [6]})]
    write_records(tmp_path / "raw.tfrecords", payloads)
    assert convert(tmp_path / "raw.tfrecords", "--out", tmp_path / "out") == (0, "")
    first, second = read_shards(tmp_path / "out").values()
    np.testing.assert_array_equal(picture(first["png"]), np.rint(image_b))
    np.testing.assert_array_equal(picture(second["png"]), np.rint(image_c))
    assert (int(first["cls"]), int(second["cls"])) == (5, 6)
    assert json.loads(first["json"])["click_count"] == 17
    for sample, expected in ((first, prepare_human_map(human_b.astype(float))), (second, human_c)):
        white = json.loads(sample.get("json", b"{}")).get("heatmap_white", 255.0)
        np.testing.assert_allclose(picture(sample["heatmap.png"]) / 65535 * white, expected, atol=white / 65535)
    assert "1 maps of 224 kept" in read_manifest(tmp_path / "out").maps


def test_imagenet_records_count_labels_from_1(convert, read_shards, encode, tmp_path):
    def write(label):
        payload = build_example({"image/encoded": [encode(300, 400)], "image/class/label": [label]})
        write_records(tmp_path / "train-00000-of-01024", [payload])

    write(1000)
    assert convert(tmp_path / "train-00000-of-01024", "--out", tmp_path / "out") == (0, "")
    sample = read_shards(tmp_path / "out")["train-00000-of-01024-00000"]
    assert sample == {"jpg": encode(300, 400), "cls": b"999"}
    assert read_manifest(tmp_path / "out").maps == "no maps"
    for label in (0, 1001):
        write(label)
        status, message = convert(tmp_path / "train-00000-of-01024", "--out", tmp_path / "bad")
        assert status == 1
        assert f"record 0: label {label} is out of range" in message


def test_class_folders_are_joined_with_their_maps(convert, read_shards, encode, tmp_path):
    for name in ("dog/img.v2.jpg", "dog/img.v3.jpg", "cat/a.PNG", "cat/b10.bmp", "cat/b9.webp"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(kind={".PNG": "PNG", ".bmp": "BMP", ".webp": "WEBP"}.get(path.suffix, "JPEG")))
    (tmp_path / "images" / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / "maps" / "cat").mkdir(parents=True)
    human = np.random.default_rng(0).random((256, 256))
    np.save(tmp_path / "maps" / "cat" / "a.npy", human)
    command = (tmp_path / "images", "--maps", tmp_path / "maps")
    status, message = convert(*command, "--out", tmp_path / "out")
    assert (status, "cat/b9.webp: heatmap is missing" in message) == (1, True)
    assert convert(*command, "--out", tmp_path / "out", "--allow-missing-map") == (0, "")
    samples = read_shards(tmp_path / "out")
    assert list(samples) == ["cat-a", "cat-b9", "cat-b10", "dog-img_v2", "dog-img_v3"]
    assert [int(sample["cls"]) for sample in samples.values()] == [0, 0, 0, 1, 1]
    assert ["webp" in samples["cat-b9"], "png" in samples["cat-b10"]] == [True, True]  # shards do not hold BMP
    np.testing.assert_array_equal(picture(samples["cat-b10"]["png"]), picture(encode(kind="BMP")))
    expected = prepare_human_map(human)
    np.testing.assert_allclose(picture(samples["cat-a"]["heatmap.png"]) / 65535, expected, atol=1e-5)
    manifest = read_manifest(tmp_path / "out")
    assert (manifest.classes, manifest.shards[0].maps) == (("cat", "dog"), 1)


def test_labels_follow_given_classes(convert, read_shards, encode, tmp_path):
    (tmp_path / "images" / "n01443537").mkdir(parents=True)
    (tmp_path / "images" / "n01443537" / "x.jpg").write_bytes(encode())
    convert(tmp_path / "images", "--out", tmp_path / "alone")
    convert(tmp_path / "images", "--out", tmp_path / "imagenet", "--classes", "imagenet")
    (tmp_path / "names").write_text("n01440764\nn01443537\nn01484850\n")
    convert(tmp_path / "images", "--out", tmp_path / "named", "--classes", tmp_path / "names")
    labels = [int(read_shards(tmp_path / out)["n01443537-x"]["cls"]) for out in ("alone", "imagenet", "named")]
    assert labels == [0, 1, 1]
    (tmp_path / "names").write_text("n01440764\n")
    status, message = convert(tmp_path / "images", "--out", tmp_path / "x", "--classes", tmp_path / "names")
    assert (status, "n01443537 is not one of the 1 classes" in message) == (1, True)


@pytest.mark.parametrize("layout", ["HWC 255", "CHW 1", "uint8"])
@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_arrays_of_every_layout_are_converted(convert, read_shards, tmp_path, layout, suffix):
    rng = np.random.default_rng(0)
    pixels, human = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8), rng.random((256, 256)).astype(np.float32)
    image = {"HWC 255": pixels.astype(np.float32), "CHW 1": pixels.transpose(2, 0, 1) / 255.0, "uint8": pixels}[layout]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "targets.pkl").write_bytes(b"never opened")
    for number in (2, 10):
        path = tmp_path / "folder" / f"img{number}{suffix}"
        if suffix == ".npz":
            np.savez(path, image=image, heatmap=human, label=number)
        else:
            parts = {"image": torch.from_numpy(image), "heatmap": torch.from_numpy(human)[None]}
            torch.save(parts | {"label": torch.tensor(number)}, path)
    assert convert(tmp_path / "folder", "--out", tmp_path / "out", "--classes", "11") == (0, "")
    samples = read_shards(tmp_path / "out")
    assert {key: int(sample["cls"]) for key, sample in samples.items()} == {"img2": 2, "img10": 10}
    for sample in samples.values():
        np.testing.assert_array_equal(picture(sample["png"]), pixels)
        prepared = prepare_human_map(human.astype(float))
        np.testing.assert_allclose(picture(sample["heatmap.png"]) / 65535, prepared, atol=1e-5)


def test_a_table_gives_images_labels_and_maps(convert, read_shards, encode, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(encode(seed=1))
    (tmp_path / "images" / "b.jpg").write_bytes(encode(seed=2))
    np.savez(tmp_path / "a.npz", heatmap=np.full((256, 256), 0.5))
    table = tmp_path / "table.csv"
    table.write_text("label,image,map\nzebra,images/a.jpg,a.npz\nant,images/b.jpg,\n")
    status, message = convert(table, "--out", tmp_path / "out")
    assert (status, "table.csv: record 3: heatmap is missing" in message) == (1, True)
    assert convert(table, "--out", tmp_path / "out", "--allow-missing-map") == (0, "")
    samples = read_shards(tmp_path / "out")
    assert {key: (int(s["cls"]), "heatmap.png" in s) for key, s in samples.items()} == {
        "images-a": (1, True),
        "images-b": (0, False),
    }
    table.write_text("image,label\nimages/a.jpg,4\nimages/a.jpg,3\n")
    status, message = convert(table, "--out", tmp_path / "numbers")
    assert (status, "labels are numbers; name them" in message) == (1, True)
    assert convert(table, "--out", tmp_path / "numbers", "--classes", "5") == (0, "")
    assert {k: int(s["cls"]) for k, s in read_shards(tmp_path / "numbers").items()} == {"images-a": 4, "images-a_2": 3}


@pytest.mark.parametrize("name", ["heatmap", "Map", "human_maps", "saliency", "ClickMe"])
def test_a_misnamed_map_column_is_an_error(name, convert, encode, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode())
    table = tmp_path / "table.csv"
    table.write_text(f"image,label,split,{name}\na.jpg,cat,train,a.npz\n")
    status, message = convert(table, "--out", tmp_path / "out")
    assert (status, f"to be named map, got '{name}'; rename it" in message) == (1, True)
    table.write_text("image,label,is_human,n_clicks,colormap,mapped_class\na.jpg,cat,1,5,jet,3\n")  # no column of maps
    assert convert(table, "--out", tmp_path / "none") == (0, "")
    table.write_text(f"image,label,split,{name},map\na.jpg,cat,train,,\n")  # the table has a column named map
    assert convert(table, "--out", tmp_path / "out", "--allow-missing-map") == (0, "")


def test_participants_give_mean_map_and_ceilings(convert, read_shards, encode, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["image,label,map"]
    stacks = {}
    for name in "abc":
        common = np.kron(rng.random((8, 8)), np.ones((32, 32)))
        own = np.kron(rng.random((4, 32, 32)), np.ones((8, 8)))
        stacks[name] = common + 2 * own
        np.save(tmp_path / f"{name}.npy", stacks[name])
        (tmp_path / f"{name}.jpg").write_bytes(encode())
        lines.append(f"{name}.jpg,0,{name}.npy")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    arguments = (tmp_path / "table.csv", "--out", tmp_path / "out", "--classes", "1", "--stack", "participants")
    assert convert(*arguments) == (0, "")
    for name, sample in read_shards(tmp_path / "out").items():
        white = json.loads(sample.get("json", b"{}")).get("heatmap_white", 255.0)
        expected = prepare_human_map(stacks[name].mean(axis=0))
        np.testing.assert_allclose(picture(sample["heatmap.png"]) / 65535 * white, expected, atol=white / 65535)
        kept = np.load(tmp_path / "out" / "participants" / f"{name}.npy")
        np.testing.assert_allclose(kept, prepare_human_map(stacks[name]), rtol=1e-5)
    ceilings = read_manifest(tmp_path / "out").ceilings
    assert ceilings.per_image.keys() == {"a", "b", "c"}
    for name, stack in stacks.items():
        people = prepare_human_map(stack)
        halves = [(people[[0, one]].mean(0), people[[i for i in (1, 2, 3) if i != one]].mean(0)) for one in (1, 2, 3)]
        r = np.mean([spearmanr(a.ravel(), b.ravel()).statistic for a, b in halves])
        assert ceilings.per_image[name] == pytest.approx(2 * r / (1 + r), abs=2e-6)
    assert ceilings.floor < 0.6 < 0.9 < ceilings.overall


def test_images_are_resized_and_encoded_as_asked(convert, read_shards, encode, tmp_path):
    (tmp_path / "images" / "x").mkdir(parents=True)
    (tmp_path / "images" / "x" / "large.jpg").write_bytes(encode(300, 450))
    (tmp_path / "images" / "x" / "small.jpg").write_bytes(encode(64, 90))
    (tmp_path / "images" / "x" / "print.jpg").write_bytes(encode(64, 64, mode="CMYK"))
    convert(tmp_path / "images", "--out", tmp_path / "small", "--resize", "100")
    samples = read_shards(tmp_path / "small")
    assert picture(samples["x-large"]["jpg"]).shape == (100, 150, 3)
    assert samples["x-small"]["jpg"] == encode(64, 90)
    assert samples["x-print"]["jpg"] == encode(64, 64, mode="CMYK")
    convert(tmp_path / "images", "--out", tmp_path / "png", "--encode", "png")
    np.testing.assert_array_equal(picture(read_shards(tmp_path / "png")["x-large"]["png"]), picture(encode(300, 450)))
    convert(tmp_path / "images", "--out", tmp_path / "webp", "--encode", "webp", "--quality", "50")
    sizes = [sum(len(s[kind]) for s in read_shards(tmp_path / kind).values()) for kind in ("webp", "png")]
    assert sizes[0] < sizes[1]


def test_sources_fill_shards_in_natural_order(convert, read_shards, clickme_file, tmp_path):
    (tmp_path / "data").mkdir()
    for number, count in ((10, 2), (2, 3)):
        clickme_file(count, f"data/train-{number}.tfrecords", first=10 * number)
    convert(tmp_path / "data", "--out", tmp_path / "out", "--shard-size", "2")
    manifest = read_manifest(tmp_path / "out")
    assert [(s.file, s.samples) for s in manifest.shards] == [("000000.tar", 2), ("000001.tar", 2), ("000002.tar", 1)]
    keys = [*(f"train-2-{n:05d}" for n in range(3)), *(f"train-10-{n:05d}" for n in range(2))]
    assert list(read_shards(tmp_path / "out")) == keys


def test_imagenet_names_equal_timms():
    info = ImageNetInfo("imagenet-1k")
    names = [description.split(",")[0] for description in info.label_descriptions()]
    assert imagenet_classes() == tuple(f"{i} {name}" for i, name in zip(info.label_names(), names, strict=True))
    assert len(set(imagenet_classes())) == 1000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no file or folder"),
        (lambda root: root.mkdir(), "expected files of one kind"),
        (lambda root: (root.mkdir(), (root / "a.jpg").touch()), "is not in a class folder"),
        (lambda root: ((root / "train" / "x").mkdir(parents=True), (root / "train" / "x" / "a.jpg").touch()), "splits"),
        (lambda root: (root.mkdir(), (root / "a.npz").touch(), (root / "b.csv").touch()), "1 array files and 1 table"),
    ],
)
def test_unusable_sources_are_refused(convert, tmp_path, make, message):
    make(tmp_path / "source")
    status, text = convert(tmp_path / "source", "--out", tmp_path / "out")
    assert (status, message in text) == (1, True), text
    assert {path.name for path in tmp_path.iterdir()} <= {"source"}


def test_wrong_usage_exits_with_status_2(convert, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        convert(tmp_path, "--out", tmp_path / "out", "--shard-size", "0")
    assert error.value.code == 2
    assert "--shard-size" in capsys.readouterr().err
