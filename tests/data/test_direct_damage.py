"""Bad images, maps and tables that are read directly: a one-line error each, before anything is measured."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from harmonizer.data.datamodule import ShardData

SETTINGS = {"model": "test_resnet", "batch_size": 4, "image_size": 32}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Two classes of two 40x30 images each, their maps, and the lines of a table of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, lines = tmp_path / "own", ["image,label,map"]
    for index, name in enumerate(("cat/a", "cat/b", "dog/a", "dog/b")):
        for folder in ("images", "maps"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(index).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(values).save(root / f"images/{name}.png")
        Image.fromarray(values[..., 0]).save(root / f"maps/{name}.png")
        lines.append(f"images/{name}.png,{name[:3]},maps/{name}.png")
    (tmp_path / "lines").write_text("\n".join(lines))
    return root


def save(values, name):
    return lambda root: Image.fromarray(values).save(root / name)


def save_array(values, name):
    def write(root):
        (root / name).with_suffix(".png").unlink()
        np.save(root / name, values)

    return write


def table(change):
    """Return a function that writes a changed table."""

    def write(root):
        (root / "table.csv").write_text(change((root.parent / "lines").read_text()))

    return write


FOLDERS = {
    "no images": (
        lambda root: [shutil.rmtree(root / name) for name in ("images", "maps")],
        "own/val",
    ),
    "maps alone": (
        lambda root: shutil.rmtree(root / "images"),
        "expected a folder images next to the folder maps, got none",
    ),
    "no folder": (shutil.rmtree, "no data folder at "),
    "cut image": (lambda root: os.truncate(root / "images/dog/a.png", 100), "dog/a.png: cannot decode the image"),
    "empty image": (lambda root: os.truncate(root / "images/dog/a.png", 0), "dog/a.png: the file is empty"),
    "deep image": (
        save(np.ones((30, 40), np.uint16), "images/dog/a.png"),
        "has mode I;16, expected 8 bits per channel",
    ),
    "pipe": (lambda root: os.mkfifo(root / "images/dog/c.png"), "dog/c.png: is a pipe, socket or device, not a file"),
    "loose image": (
        lambda root: shutil.copy(root / "images/dog/a.png", root / "images/c.png"),
        "c.png is not in a class folder, expected FOLDER/CLASS/IMAGE or a CSV with labels",
    ),
    "table among images": (lambda root: (root / "t.csv").touch(), "holds the table t.csv; give the table, or move it"),
    "map of another shape": (
        save(np.ones((40, 40), np.uint8), "maps/dog/a.png"),
        "dog/a.png: the heatmap is 40x40, expected the shape of the image, 40x30",
    ),
    "cut map": (lambda root: os.truncate(root / "maps/dog/a.png", 50), "dog/a.png: cannot decode the heatmap"),
    "coloured map": (
        save(np.ones((30, 40, 3), np.uint8), "maps/dog/a.png"),
        "the heatmap is an image of mode RGB, expected one channel",
    ),
    "two maps": (lambda root: np.save(root / "maps/dog/a.npy", np.ones((30, 40))), "are maps of one image; remove one"),
    "nan": (save_array(np.full((30, 40), np.nan), "maps/dog/a.npy"), "holds values that are negative or not finite"),
    "pickle": (save_array(np.array([{}]), "maps/dog/a.npy"), "cannot read a.npy (it holds pickled Python objects"),
    "text": (
        lambda root: (root / "maps/dog/a.png").rename(root / "maps/dog/a.npy").write_text("hello"),
        "cannot read a.npy (it is not a file of arrays, or holds Python objects, which are never unpickled)",
    ),
    "stack": (save_array(np.ones((2, 30, 40)), "maps/dog/a.npy"), "try data.stack=participants (one per person)"),
}
TABLES = {
    "empty": (lambda text: "", "table.csv: the file is empty"),
    "no rows": (lambda text: text.partition("\n")[0], "table.csv holds no images"),
    "no column": (lambda text: text.replace("label", "class"), "expected columns image, label, map; label not among"),
    "a map by another name": (lambda text: text.replace("map\n", "heatmap\n"), "to be named map, got 'heatmap'"),
    "missing image": (lambda text: text.replace("s/cat/b.png,c", "s/cat/x.png,c"), "record 3: cannot read x.png (No"),
    "missing map": (lambda text: text.replace("maps/cat/b", "maps/cat/x"), "record 3: cannot read the map"),
    "no label": (lambda text: text.replace(",dog,", ",,"), "record 4: has no label"),
    "absolute": (lambda text: text.replace("maps/cat/b.png", "/etc/hostname"), "record 3: '/etc/hostname' is outside"),
    "upwards": (
        lambda text: text.replace("images/dog/b.png", "../lines"),
        "record 5: '../lines' is outside the table",
    ),
    "numbers": (lambda text: text.replace("cat,", "0,").replace("dog,", "1,"), "name them with data.classes"),
    "binary": (lambda text: "\0" * 99, "table.csv: expected columns image, label, map; image and label not among"),
    "a class with control characters": (
        lambda text: text.replace(",dog,", ",\x1b[2Jdog,"),
        "name of a class: expected a text",
    ),
}
OPTIONS = {
    "no such maps": ({"maps": "nowhere"}, "data.maps nowhere: no such folder"),
    "no such preparation": (
        {"prepare": "blur"},
        "expected prepare to be one of fel2022, gaussian, none, or null, got 'blur'",
    ),
    "no such stack": ({"stack": "people"}, "expected stack to be one of participants, thresholds, mean, or null"),
    "a preparation that does not fit": (
        {"prepare": "fel2022"},
        "got 4 of 40x30; 0 of 4 fit; try data.prepare=none",
    ),
    "no such classes": (
        {"classes": "nowhere.txt"},
        "data.classes nowhere.txt: expected 'imagenet', a number, or a file",
    ),
    "other classes": ({"classes": "imagenet"}, "images/cat is not one of the 1000 classes of data.classes"),
}


def fails(message, place, **settings):
    with pytest.raises((ValueError, OSError)) as error:
        ShardData(place, **SETTINGS, **settings)
    assert message in str(error.value) and "\n" not in str(error.value), str(error.value)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_bad_folder_gives_a_one_line_error(name, own):
    write, message = FOLDERS[name]
    write(own)
    fails(message, own)


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table_gives_a_one_line_error(name, own):
    change, message = TABLES[name]
    table(change)(own)
    fails(message, own / "table.csv")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_bad_setting_gives_a_one_line_error(name, own):
    settings, message = OPTIONS[name]
    fails(message, own, **settings)


def test_a_label_outside_the_classes_gives_a_one_line_error(own, tmp_path):
    table(lambda text: text.replace(",dog,", ",7,").replace(",cat,", ",0,"))(own)
    fails("record 4: label 7 is out of range; there are 2 classes", own / "table.csv", classes=2)
    (tmp_path / "names").write_text("cat\nfox\n")
    table(lambda text: text)(own)
    fails("record 4: label 'dog' is not one of the 2 classes", own / "table.csv", classes=str(tmp_path / "names"))


def test_a_missing_table_is_an_error(own):
    fails(f"no data folder at {own}/nowhere.csv", own / "nowhere.csv")


def test_maps_without_an_image_are_reported(own, capsys):
    (own / "images/dog/b.png").unlink()
    assert ShardData(own, **SETTINGS).manifest.samples == 3
    assert f"1 maps belong to no image; first {own}/maps/dog/b.png" in capsys.readouterr().out


def test_training_without_a_train_split_is_an_error(own, tmp_path):
    (tmp_path / "lines").rename(own / "table.csv")
    for place in (own / "table.csv", own / "images"):
        data = ShardData(place, **SETTINGS)
        with pytest.raises(OSError, match=rf"no data folder at {place}/train") as error:
            data.train_dataloader()
        assert "\n" not in str(error.value)


def test_splits_must_have_the_same_classes(own):
    for split in ("train", "val"):
        shutil.copytree(own / "images", own / split)
    shutil.rmtree(own / "val/dog")
    data = ShardData(own, **SETTINGS)
    with pytest.raises(ValueError, match=r"name different classes, 2 and 1; label 1 is 'dog' and missing"):
        data.train_dataloader()
