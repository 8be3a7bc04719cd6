"""Datasets of the Hugging Face datasets package, read directly."""

import json
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import harmonizer
from harmonizer.data.datamodule import ShardData

SETTINGS = {"model": "test_resnet", "batch_size": 4, "image_size": 32}
CLASSES = ["ant", "bee"]


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


@pytest.fixture
def own(tmp_path):
    """Five images of 40x30 in class folders, four of them with maps."""
    for index in range(5):
        values = np.random.default_rng(index).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        for folder, content in (("images", values), ("maps", values[..., 0])):
            path = tmp_path / "own" / folder / CLASSES[index > 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if folder == "images" or index:
                Image.fromarray(content).save(path)
    return tmp_path / "own"


@pytest.fixture
def dataset(own):
    """The same images as a dataset, with their bytes unchanged."""
    paths = sorted((own / "images").rglob("*.png"))
    maps = [own / "maps" / path.relative_to(own / "images") for path in paths]
    columns = {
        "image": [{"bytes": path.read_bytes(), "path": None} for path in paths],
        "label": [CLASSES.index(path.parent.name) for path in paths],
        "map": [{"bytes": path.read_bytes(), "path": None} if path.exists() else None for path in maps],
        "note": ["not read"] * len(paths),
    }
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES), "map": datasets.Image()}
    return datasets.Dataset.from_dict(
        columns, features=datasets.Features(features | {"note": datasets.Value("string")})
    )


def samples(place, **settings):
    data = ShardData(place, **SETTINGS | settings)
    batches = list(data.val_dataloader())
    return [
        torch.cat([getattr(b, name) for b in batches]) for name in ("images", "labels", "human_map", "has_map")
    ], data


def assert_same(place, expected, **settings):
    found, data = samples(place, **settings)
    assert all(torch.equal(a, b) for a, b in zip(found, expected[0], strict=True))
    assert data.classes == expected[1].classes
    return data


def test_a_dataset_gives_the_samples_of_its_folders(own, dataset, tmp_path, capsys):
    expected = samples(own)
    data = assert_same(dataset, expected)
    assert "note: dataset: 2 classes as the dataset names them" in capsys.readouterr().out
    assert data.manifest.maps == "none: as in the source" and data.manifest.shards[0].maps == 4
    assert_same(dataset, expected, num_workers=2, start_method="spawn")
    splits = datasets.DatasetDict({"train": dataset, "validation": dataset})
    assert_same(splits, expected)
    splits.save_to_disk(str(tmp_path / "saved"))
    again = assert_same(tmp_path / "saved", expected)
    assert again.manifest.digest() == data.manifest.digest()
    assert sum(len(batch.keys) for batch in again.train_dataloader()) == 4
    dataset.save_to_disk(str(tmp_path / "single"))
    assert_same(tmp_path / "single", expected)


def test_labels_may_be_names_and_images_arrays(own, dataset):
    expected = samples(own)
    named = dataset.cast_column("label", datasets.Value("int64"))
    with pytest.raises(ValueError, match=r"labels are numbers; name them with data.classes"):
        samples(named)
    assert samples(named, classes=2)[1].classes == ("0", "1")
    arrays = {
        "image": [np.asarray(image).tolist() for image in dataset["image"]],
        "label": [CLASSES[label] for label in dataset["label"]],
        "map": [None if image is None else np.asarray(image).tolist() for image in dataset["map"]],
    }
    assert_same(datasets.Dataset.from_dict(arrays), expected)


def test_evaluate_accepts_a_dataset(own, dataset):
    model = harmonizer.load("test_resnet", num_classes=2, image_size=32)
    settings = {"attack": "pgd", "steps": 2, "rounds": 2, "progress": False}
    found, expected = (harmonizer.evaluate(model, place, **settings) for place in (dataset, own))
    for name in ("label", "status", "l2", "feature_alignment"):
        np.testing.assert_array_equal(found.columns[name], expected.columns[name])
    assert found.summary["data"]["samples"] == 5


def broken(dataset, change):
    rows = dataset.cast_column("image", datasets.Image(decode=False)).to_dict()
    rows["image"][1] = change
    return datasets.Dataset.from_dict(rows, features=dataset.features)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: d.rename_column("label", "fine"), ValueError, "expected columns image, label, map; label not among"),
        (lambda d: d.to_iterable_dataset(), TypeError, "expected a datasets.Dataset, got IterableDataset"),
        (
            lambda d: datasets.DatasetDict({"odd": d}),
            ValueError,
            "expected a split named val, got odd; try one of them",
        ),
        (lambda d: d.select([]), ValueError, "dataset holds no images"),
        (
            lambda d: broken(d, {"bytes": b"no image", "path": None}),
            ValueError,
            "dataset: record 1: cannot decode the im",
        ),
        (lambda d: broken(d, {"bytes": None, "path": "/gone.png"}), ValueError, "record 1: cannot read /gone.png (No"),
        (lambda d: broken(d, None), ValueError, "record 1: image is None, expected an image or an array"),
    ],
)
def test_a_bad_dataset_gives_a_one_line_error(make, error, message, dataset):
    with pytest.raises(error) as found:
        samples(make(dataset))
    assert message in str(found.value) and "\n" not in str(found.value), str(found.value)


def test_a_label_outside_the_classes_is_refused(dataset):
    named = dataset.cast_column("label", datasets.Value("int64"))
    with pytest.raises(ValueError, match="record 3: label 1 is out of range; there are 1 classes"):
        samples(named, classes=1)


def test_a_saved_dataset_may_not_name_other_files(dataset, own, tmp_path):
    path = str(own / "images/ant/0.png")
    broken(dataset, {"bytes": None, "path": path}).save_to_disk(str(tmp_path / "saved"))
    assert samples(tmp_path / "saved")[1].manifest.samples == 5  # saving embeds the file
    state = tmp_path / "saved/state.json"
    content = json.loads(state.read_text())
    content["_data_files"][0]["filename"] = "../saved/" + content["_data_files"][0]["filename"]
    state.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"got a damaged one .expected a file name"):
        samples(tmp_path / "saved")


def test_a_missing_datasets_package_is_named_in_the_error(dataset, tmp_path, monkeypatch):
    dataset.save_to_disk(str(tmp_path / "saved"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'neural-harmonizer\[datasets\]'"):
        samples(tmp_path / "saved")
