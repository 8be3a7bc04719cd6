"""A model is evaluated on plain image folders, by command and in Python, with equal results."""

import re
import shlex
from pathlib import Path

import numpy as np
import programs
import pytest
from PIL import Image

import harmonizer

ROOT = Path(harmonizer.__file__).parents[1]
CHEAP = {"attack": "pgd", "steps": 3, "rounds": 4, "progress": False}
COMMAND = "image_size=32 --attack pgd attack.settings.steps=3 attack.settings.rounds=4 health=0 data.num_workers=0"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Twelve images of two sizes in folders of ImageNet classes, their maps, and a table that lists them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    lines = ["image,label,map"]
    for index in range(12):
        name = ("n01440764", "n01443537", "n01484850")[index % 3]
        for folder in ("images", "maps"):
            (tmp_path / "photos" / folder / name).mkdir(parents=True, exist_ok=True)
        size = (40, 60 - index % 2 * 10)
        values = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(values).save(f"photos/images/{name}/{index}.png")
        np.save(f"photos/maps/{name}/{index}.npy", values.mean(2))
        lines.append(f"images/{name}/{index}.png,{name},maps/{name}/{index}.npy")
    Path("photos/val.csv").write_text("\n".join(lines))
    return tmp_path / "photos"


def test_the_documented_commands_give_the_rows_of_python(photos):
    text = (ROOT / "docs/data.md").read_text()
    commands = re.findall(r"^python evaluate.py --model resnet50 --pretrained (.*folder=photos\S* .*)$", text, re.M)
    assert len(commands) == 2
    (photos / "val.csv").rename(photos.parent / "val.csv")
    model = harmonizer.load("test_resnet", image_size=32)
    expected = harmonizer.evaluate(model, "photos", classes="imagenet", **CHEAP, eps_max=10.0, restarts=1)
    assert expected.summary["data"]["classes"] == 1000
    for number, command in enumerate(commands):
        if number:
            (photos.parent / "val.csv").rename(photos / "val.csv")
        words = ["--model", "test_resnet", *shlex.split(command), *COMMAND.split(), f"label={number}"]
        done = programs.run([ROOT / "evaluate.py", *words])
        assert done.returncode == 0, done.stderr
        assert "note: photos" in done.stdout and "12 of 12 images have a human map" in done.stdout
        found = harmonizer.load_results(f"results/{number}")
        for name in ("label", "status", "l2", "alignment", "feature_alignment"):
            by_key = [results.columns[name][np.argsort(results.columns["key"])] for results in (found, expected)]
            np.testing.assert_array_equal(*by_key, name)


def test_classes_that_differ_from_the_models_are_refused(photos):
    model = harmonizer.load("test_resnet", num_classes=4, image_size=32)
    message = r"as the model has, 4, got 3 in .*images \(n01440764, .*try classes=FILE"
    with pytest.raises(ValueError, match=message) as error:
        harmonizer.evaluate(model, photos / "images", **CHEAP)
    assert "\n" not in str(error.value)
    Path("names").write_text("n01440764\nother\nn01443537\nn01484850\n")
    found = harmonizer.evaluate(model, photos / "images", classes="names", **CHEAP)
    assert set(found.columns["label"]) == {0, 2, 3}


def test_settings_of_image_files_are_refused_with_tensors(photos):
    model = harmonizer.load("test_resnet", num_classes=3, image_size=32)
    arrays = np.zeros((1, 3, 32, 32), np.float32), np.zeros(1, int)
    with pytest.raises(ValueError, match=r"expected data.prepare=none with images from files only, got tuple"):
        harmonizer.evaluate(model, arrays, prepare="none", **CHEAP)
