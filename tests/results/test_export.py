"""An exported model equals the trained one, whether timm or Harmonizer loads it."""

import json
import math

import lightning as L
import pytest
import timm
import torch
from shard_data import CLASSES, write_folder
from trainings import fit, shards

import harmonizer
from harmonizer.evaluation.checkpoint import restore
from harmonizer.export import export, push
from harmonizer.export.__main__ import main
from harmonizer.export.card import model_card
from harmonizer.models import build_model
from harmonizer.training.module import HarmonizerModule


@pytest.fixture(scope="module", params=["test_resnet", "test_vit"])
def checkpoint(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    write_folder(place / "shards", train=16, val=6)
    torch.manual_seed(0)
    module = HarmonizerModule(request.param, CLASSES, 32, harmonize=True, seed=1)
    fit(module, shards(place / "shards"), place, ema=0.5)
    return place / "last.ckpt"


def logits(backbone, restored):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return backbone.eval()((images - restored.mean) / restored.std), restored.eval()(images)


@pytest.mark.parametrize("ema", [False, True])
def test_timm_loads_an_export_with_equal_logits(checkpoint, tmp_path, ema):
    out = export(checkpoint, tmp_path / "model", ema=ema)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    restored = restore(checkpoint, ema=ema).model
    name = restore(checkpoint).hparams["model"]
    size = {"img_size": 32} if name == "test_vit" else {}
    loaded = (
        timm.create_model(f"local-dir:{out}", pretrained=True),
        timm.create_model(name, num_classes=3, checkpoint_path=out / "model.safetensors", **size),
        build_model(name, num_classes=3, image_size=32, weights=str(out / "model.safetensors")).backbone,
        build_model(name, num_classes=3, image_size=32, weights=str(checkpoint)).backbone if not ema else None,
    )
    for backbone in loaded:
        if backbone is not None:
            actual, expected = logits(backbone, restored)
            assert torch.equal(actual, expected)
    assert json.loads((out / "config.json").read_text())["label_names"] == list(CLASSES)


def test_raw_and_averaged_weights_differ(checkpoint):
    raw, ema = (restore(checkpoint, ema=ema).model.state_dict() for ema in (False, True))
    assert any(not torch.equal(raw[name], ema[name]) for name in raw)


def test_the_model_card_states_model_recipe_and_data(checkpoint, tmp_path):
    card = (export(checkpoint, tmp_path / "model") / "README.md").read_text()
    (digest,) = torch.load(checkpoint, weights_only=True)["data_sha256"].values()
    for text in ("harmonized", '"harmonizer_weight": 1.0', digest, "3 classes"):
        assert text in card


def test_scores_without_a_value_are_none_in_the_model_card(checkpoint):
    undefined = {"value": math.nan, "mean": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    few = {"value": 0.5, "low": math.nan, "high": math.nan, "n": 2}
    tolerance = {"restricted_mean": undefined, "median": few | {"value": math.inf}}
    protocol = {"attack": "ddn", "images": 2, "hash": "0", "eps_max": 10.0}
    scores = {
        "protocol": protocol,
        "accuracy": few,
        "tolerance": tolerance,
        "data": {"name": "d"} | {"manifest_sha256": ""},
    }
    scores |= {"adversarial_alignment": None, "feature_alignment": undefined}
    card = model_card(dict(restore(checkpoint).hparams), digest="", data={}, scores=scores)
    cells = [line.split(" | ", 1)[1] for line in card.splitlines() if line.startswith("| ")][1:]
    assert cells == ["0.5000 |  | 2 |", "none |  | 0 |", "inf |  | 2 |", "none |  | 0 |", "none |  | 0 |"]


def test_exported_files_have_the_permissions_of_the_folder(checkpoint, tmp_path):
    folder = export(checkpoint, tmp_path / "model")
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(modes, folder.stat().st_mode & 0o666) and "model.safetensors" in modes


def test_mistakes_leave_no_files(checkpoint, tmp_path, capsys):
    export(checkpoint, tmp_path / "model")
    with pytest.raises(FileExistsError, match="choose another place"):
        export(checkpoint, tmp_path / "model")
    for words in ([], ["ckpt=missing.ckpt"], [f"ckpt={checkpoint}", "format=onnx"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "error: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_pushed_to_the_hub(checkpoint, tmp_path, monkeypatch, capsys):
    asked = []

    class Hub:
        def create_repo(self, name, *, private, exist_ok):
            asked.append(("create", name, private, exist_ok))
            if name == "org/taken":
                raise OSError("403 Forbidden")
            return f"https://hub/{name}"

        def upload_folder(self, *, folder_path, repo_id, commit_message):
            asked.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))

    monkeypatch.setattr("harmonizer.export.folder.HfApi", Hub)
    main([f"ckpt={checkpoint}", f"out={tmp_path / 'model'}", "push=org/net"])
    assert capsys.readouterr().out.endswith("pushed: https://hub/org/net\n")
    files = ["README.md", "config.json", "model.safetensors"]
    assert asked == [("create", "org/net", True, True), ("upload", "org/net", files)]
    assert "@inproceedings{fel2022harmonizing," in (tmp_path / "model/README.md").read_text()
    for name, message in (("org/taken", "403 Forbidden; the folder is kept"), ("net", "expected ORG/NAME")):
        with pytest.raises(ValueError, match=f"cannot push .* to {name}: {message}"):
            push(tmp_path / "model", name)
    assert len(list((tmp_path / "model").iterdir())) == 3


def test_torchvision_models_are_exported_and_loaded_by_folder(tmp_path):
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    module = HarmonizerModule("torchvision:squeezenet1_1", CLASSES, 64)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    out = export(tmp_path / "a.ckpt", tmp_path / "model")
    loaded, images = harmonizer.load(out), torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded(images), module.model.eval()(images))
    assert loaded.image_size == 64
    card = (out / "README.md").read_text()
    assert 'harmonizer.load("THIS_FOLDER")' in card and "timm" not in card
