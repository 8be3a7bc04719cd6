"""Exports of named models: the folder is a name of the same model, with bitwise equal logits."""

import json
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from shard_data import CLASSES, write_folder

import harmonizer
from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.export import export_model
from harmonizer.export.__main__ import main

ROOT = Path(__file__).parents[2]
NET = str(ROOT / "tests/models/own_nets.py") + ":Net"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"), train=30, val=12)


def exported(tmp_path, capsys, *words):
    main([*words, f"out={tmp_path / 'model'}"])
    assert capsys.readouterr().out.endswith(f"model: {tmp_path / 'model'}\n")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("test_resnet", {"num_classes": 3, "image_size": 48, "mean": [0.1, 0.2, 0.3]}),
        ("test_vit", {"num_classes": 3, "image_size": 32, "model_args": {"global_pool": "avg"}}),
        ("torchvision:resnet18", {"num_classes": 3, "image_size": 32}),
        ("torchvision:vit_b_16", {"num_classes": 3, "image_size": 32}),
        ("clip:ViT-S-32", {"class_names": list(CLASSES), "image_size": 32, "prompts": "a {} thing"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_exported_folder_gives_the_logits_of_the_name(name, settings, tmp_path, capsys):
    arguments = settings.get("model_args", {})
    words = [f"{key}={json.dumps(value)}" for key, value in settings.items() if key not in ("model_args", "prompts")]
    words += [f"model_args.{key}={value}" for key, value in arguments.items()]
    words += [f"prompts={settings['prompts']}"] if "prompts" in settings else []
    folder = exported(tmp_path, capsys, f"model={name}", "seed=3", *words)
    model, loaded = harmonizer.load(name, seed=3, **settings), harmonizer.load(folder)
    size = settings["image_size"]
    images = torch.rand(2, 3, size, size)
    assert torch.equal(model(images), loaded(images)) and loaded(images).shape == (2, 3)
    assert loaded.image_size == size and torch.equal(loaded.mean, model.mean)
    assert loaded.architecture.head == ("zero-shot" if name.startswith("clip") else "own")
    again = export_model(loaded, tmp_path / "again", name=str(folder), origin="a folder")
    assert torch.equal(harmonizer.load(again)(images), model(images))


def test_an_export_of_own_code_can_only_be_loaded_as_weights(tmp_path, capsys):
    folder = exported(tmp_path, capsys, f"model={NET}", "num_classes=5", "model_args.width=4")
    model = harmonizer.load(NET, num_classes=5, model_args={"width": 4})
    loaded = harmonizer.load(NET, num_classes=5, model_args={"width": 4}, weights=str(folder), seed=9)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), loaded(images))
    assert f"""load("{NET}", weights="THIS_FOLDER", model_args={{'width': 4}})""" in (folder / "README.md").read_text()
    with pytest.raises(ValueError, match="which is code and is not run automatically"):
        harmonizer.load(folder)


def test_a_probe_is_exported_with_its_classes(shards, tmp_path, capsys):
    folder = exported(tmp_path, capsys, "model=test_vit", "image_size=32", "probe=true", f"data={shards}")
    model, loaded = harmonizer.load("test_vit", image_size=32, probe=shards), harmonizer.load(folder)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), loaded(images)) and loaded.architecture.head == "probe"
    with pytest.raises(ValueError, match=r"has the classes red, green, blue, .* in another order"):
        resolve_model(model=str(folder)).build(CLASSES[::-1])
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == list(CLASSES) and config["probe_fitted"] == 30
    card = (folder / "README.md").read_text()
    assert "* head: probe" in card and "which did not train it. Weights: random weights" in card


def test_evaluation_of_the_folder_equals_that_of_the_name(shards, tmp_path, capsys):
    folder = exported(tmp_path, capsys, "model=test_resnet", "num_classes=3", "image_size=32")
    common = f"--data folder data.folder={shards} data.num_workers=0 --attack pgd attack.settings.steps=3 health=0"
    for label, words in {"name": "--model test_resnet image_size=32", "folder": f"--model {folder}"}.items():
        command = [ROOT / "evaluate.py", *words.split(), *common.split(), "--label", label]
        programs.run(command, tmp_path).check_returncode()
    name, other = (harmonizer.load_results(tmp_path / "results" / label) for label in ("name", "folder"))
    for column, values in name.columns.items():
        np.testing.assert_array_equal(other.columns[column], values, column)
    assert other.summary["model"]["weights_sha256"] == name.summary["model"]["weights_sha256"]
    main([f"model={folder}", f"out={tmp_path / 'again'}", f"results={tmp_path / 'results/folder'}"])
    assert "| accuracy |" in (tmp_path / "again/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=test_resent"], "did you mean test_resnet"),
        (
            ["model=test_resnet", "ema=true"],
            "expected ckpt=FILE or model=NAME with options brainscore, class_names, data, .*, got ema",
        ),
        (["model=test_resnet", "probe=true"], "expected probe=true together with data=demo|FOLDER"),
        (["model=test_resnet", "data=demo"], "expected probe=true together with data=demo|FOLDER"),
        (["model=test_resnet", "image_size=big"], "expected image_size to be a whole number, got big"),
        (["model=test_resnet", "seed=[1"], "expected seed to be a whole number, got [1"),
        (["model=clip:ViT-B-32"], "expected class_names for the texts of ViT-B-32, got none"),
        (["model=nowhere.ckpt"], "no checkpoint at nowhere.ckpt"),
        (["out=x"], "expected ckpt=FILE or model=NAME"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_files(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(words)
    error = capsys.readouterr().err
    assert message.split(".*")[0] in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_zero_shot_folder_has_a_fixed_number_of_classes(tmp_path):
    model = harmonizer.load("clip:ViT-S-32", class_names=list(CLASSES), image_size=32)
    folder = export_model(model, tmp_path / "model", name="clip:ViT-S-32", origin="random weights")
    spec = resolve_model(model=str(folder))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(spec.build(CLASSES).model.eval()(images), model(images))
    with pytest.raises(ValueError, match=r"expected data with the 3 classes of .*, got 2"):
        spec.build(("a", "b"))
