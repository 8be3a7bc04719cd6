"""Heads made for the data: by evaluate.py, in sweep lists, and how the results describe them."""

import json
from pathlib import Path

import numpy as np
import programs
import pytest
from shard_data import CLASSES, write_folder

import harmonizer
from harmonizer.data.datamodule import ShardData
from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.evaluation.sweep_list import read_models

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("shards"), train=60, val=24)


def test_command_and_python_fit_the_same_probe(folder, tmp_path):
    attack = ["--attack", "pgd", "attack.settings.steps=3", "attack.settings.rounds=4", "--images", "10"]
    words = ["--model", "test_vit", "image_size=32", "--probe", "--data", "folder", f"data.folder={folder}", *attack]
    command = [ROOT / "evaluate.py", *words, "data.num_workers=0", "health=0", "--label", "it"]
    done = programs.run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "probe: the last layer is fitted to 60 images of the training split; l2 " in done.stdout
    command = harmonizer.load_results(tmp_path / "results/it")
    settings = {"steps": 3, "rounds": 4, "eps_max": 10.0, "restarts": 1, "progress": False}
    model = harmonizer.load("test_vit", image_size=32, probe=folder)
    python = harmonizer.evaluate(model, folder, attack="pgd", images=10, label="it", **settings)
    for name, column in command.columns.items():
        np.testing.assert_array_equal(python.columns[name], column, name)
    said = command.summary["model"]
    data = ShardData(folder, model="test_vit", batch_size=8, image_size=32)
    assert said["head"] == "probe" and (said["probe_images"], said["probe_fitted"]) == (60, 60)
    assert said["probe_data"] == list(data.digests().values()) != [data.manifest.digest()]
    assert {name: said[name] for name in python.summary["model"]} == python.summary["model"] | {"name": "test_vit"}


def test_a_probe_draws_a_fixed_sample_of_training_images(folder):
    data = ShardData(folder, model="test_vit", batch_size=8, image_size=32)
    drawn = [[key for batch in data.probe_dataloader(20) for key in batch.keys] for _ in range(2)]
    assert drawn[0] == drawn[1] == sorted(drawn[0]) and len(set(drawn[0])) == 20
    everything = [key for batch in data.probe_dataloader(1000) for key in batch.keys]
    assert len(everything) == 60 and set(drawn[0]) < set(everything)
    labels = [int(label) for batch in data.probe_dataloader(20) for label in batch.labels]
    assert len(set(labels)) == len(CLASSES)  # every third image would give one class only


def test_a_zero_shot_classifier_uses_the_datas_classes(folder):
    data = ShardData(folder, model="test_vit", batch_size=8, image_size=32)
    spec = resolve_model(model="clip:ViT-S-32", image_size=32, prompts="a {} square")
    assert spec.label == "clip-ViT-S-32-untrained"
    said = {"head": "zero-shot", "prompts": ["a {} square"], "class_names": list(CLASSES)}
    assert spec.head(data) == said
    module = spec.build(data.classes)
    assert module.model.architecture.described_head() == said
    assert module.hparams["model"] == "clip:ViT-S-32" and module.hparams["architecture"] is None
    assert module.model.backbone.texts.shape[0] == 3


def test_the_error_about_other_classes_suggests_a_probe():
    spec = resolve_model(model="test_vit", pretrained=True)
    with pytest.raises(
        ValueError, match=r"expected data with the 1000 classes of .*, got 3; .* fit a head with probe=true"
    ):
        spec.build(CLASSES)
    with pytest.raises(ValueError, match="expected probe with model=NAME only"):
        resolve_model(ckpt="a.ckpt", probe=True)
    with pytest.raises(ValueError, match="expected probe_images >= 1, got 0"):
        resolve_model(model="test_vit", probe=True, probe_images=0)


def test_a_sweep_list_accepts_heads_but_no_text_files(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text(
        json.dumps(
            [
                {"model": "vit_small_patch14_dinov2", "probe": True, "pretrained": True},
                {"model": "clip:ViT-B-32.openai", "prompts": ["a {}"], "class_names": ["cat", "dog"]},
                "resnet50",
            ]
        )
    )
    probed, zero_shot, own = (entry.all_settings for entry in read_models([], path))
    assert probed["probe"] is True and probed["prompts"] is None
    assert zero_shot["prompts"] == ["a {}"] and zero_shot["probe"] is False
    assert "probe" not in own  # the sweep's own probe=true applies to it
    for damaged in ({"prompts": "/etc/passwd"}, {"class_names": "names.txt"}, {"prompts": [3]}, {"probe": "demo"}):
        with pytest.raises(ValueError, match=f"{next(iter(damaged))}: expected"):
            read_models([{"model": "clip:ViT-B-32", **damaged}])
