"""Only complete checkpoints of train.py are loaded; others are refused by name, and no code in them runs."""

import os
import pickle
import shutil
from pathlib import Path

import lightning as L
import pytest
import torch
from shard_data import CLASSES
from timm.models import save_for_hf

from harmonizer.evaluation.checkpoint import find_checkpoint, restore
from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.models import build_model
from harmonizer.training.module import HarmonizerModule


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "epoch=3.ckpt"
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=path.parent)
    trainer.strategy.connect(HarmonizerModule("test_vit", CLASSES, 32, harmonize=True, seed=5))
    trainer.save_checkpoint(path)
    return path


def test_a_checkpoint_alone_rebuilds_the_model(checkpoint):
    module = restore(checkpoint, CLASSES)
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[key]) for key, value in module.state_dict().items())
    assert module.hparams["classes"] == list(CLASSES)
    assert resolve_model(ckpt=str(checkpoint)).label == "test_vit-harmonized-seed-5"


def test_a_run_folder_resolves_to_its_best_checkpoint(checkpoint, tmp_path, capsys):
    run = tmp_path / "runs/a"
    run.mkdir(parents=True)
    shutil.copy(checkpoint, run / "last.ckpt")
    with pytest.raises(FileNotFoundError, match=r"no best.ckpt in the folder .*; try ckpt=.*last.ckpt"):
        find_checkpoint(run)
    shutil.copy(checkpoint, run / "best.ckpt")
    spec = resolve_model(ckpt=str(run))
    assert spec.checkpoint == run / "best.ckpt"
    assert capsys.readouterr().out == f"checkpoint: {run / 'best.ckpt'}, the best of this run\n"
    with pytest.raises(ValueError, match=r"expected a local checkpoint, got s3://x/a.ckpt; download it first"):
        resolve_model(ckpt="s3://x/a.ckpt")


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload_ran",)


def test_files_that_are_not_checkpoints_are_refused(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = checkpoint.read_bytes()
    files = {
        "truncated": (whole[: len(whole) // 2], "truncated or damaged"),
        "empty": (b"", "truncated or damaged"),
        "text": (b"hello", "not loaded|damaged"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            restore(tmp_path / name)
        assert name in str(error.value)
    for name, content in {"other": {"weights": torch.ones(2)}, "list": [1, 2]}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=r"not a checkpoint of train\.py"):
            restore(tmp_path / name)
    torch.save(torch.load(checkpoint, weights_only=True) | {"extra": Payload()}, tmp_path / "pickled")
    (tmp_path / "bare").write_bytes(pickle.dumps(Payload(), protocol=2))
    for name in ("pickled", "bare"):
        with pytest.raises(ValueError, match="it is not loaded"):
            restore(tmp_path / name)
    assert not (tmp_path / "payload_ran").exists()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*missing"):
        restore(tmp_path / "missing.ckpt")


def test_a_checkpoint_of_other_classes_or_size_is_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="was trained on the classes red, green, blue"):
        restore(checkpoint, ("cat", "dog"))
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["image_size"] = 64
    torch.save(content, tmp_path / "changed")
    with pytest.raises(ValueError, match="does not fit the model that it names"):
        restore(tmp_path / "changed")


def test_resolve_model_takes_either_a_checkpoint_or_a_name():
    with pytest.raises(ValueError, match="either ckpt=FILE or model=NAME"):
        resolve_model()
    with pytest.raises(ValueError, match="either ckpt=FILE or model=NAME"):
        resolve_model("a.ckpt", "test_resnet")
    with pytest.raises(ValueError, match="did you mean"):
        resolve_model(model="test_resent")
    spec = resolve_model(model="test_resnet", pretrained=True)
    assert (spec.image_size, spec.label) == (160, "test_resnet")
    with pytest.raises(ValueError, match=r"expected data with the 1000 classes of .*, got 3"):
        spec.build(CLASSES)
    assert resolve_model(model="test_resnet", image_size=32).build(CLASSES).hparams["classes"] == list(CLASSES)


def test_only_an_untrained_model_has_a_seed():
    specs = [resolve_model(model="test_resnet", seed=seed) for seed in (0, 1)]
    assert [spec.label for spec in specs] == ["test_resnet-untrained", "test_resnet-untrained-seed-1"]
    assert [spec.seed for spec in specs] == [0, 1]
    assert resolve_model(model="test_resnet.r160_in1k", pretrained=True, seed=1).seed is None


def test_a_timm_model_takes_timms_arguments(checkpoint):
    spec = resolve_model(model="test_resnet", image_size=32, model_args={"global_pool": "avgmax"})
    assert spec.label == "test_resnet-untrained-global_pool=avgmax"
    module = spec.build(CLASSES)
    assert module.hparams["model_args"] == {"global_pool": "avgmax"}
    assert module.model.backbone.global_pool.pool_type == "avgmax"
    with pytest.raises(ValueError, match=r"model_args with model=NAME only, got .*global_pool"):
        resolve_model(checkpoint, model_args={"global_pool": "avgmax"})


def test_an_exported_folder_is_not_taken_for_a_checkpoint(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=r"got weights only .*try train.py --model NAME weights="):
        find_checkpoint(tmp_path)


NET = str(Path(__file__).parents[1] / "models/own_nets.py") + ":Net"


@pytest.fixture(scope="module")
def own_checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.ckpt"
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=path.parent)
    trainer.strategy.connect(HarmonizerModule(NET, CLASSES, 32, harmonize=True))
    trainer.save_checkpoint(path)
    return path


def test_a_checkpoints_code_runs_only_if_the_user_names_it(own_checkpoint, monkeypatch):
    for refused in (lambda: restore(own_checkpoint), lambda: resolve_model(ckpt=str(own_checkpoint))):
        with pytest.raises(ValueError, match=r"own_nets.py:Net, which is code and is not run .* add trust=true"):
            refused()
    saved = torch.load(own_checkpoint, weights_only=True)["state_dict"]
    for named in ({"model": NET}, {"trust": True}):
        module = restore(own_checkpoint, CLASSES, **named)
        assert all(torch.equal(value, saved[key]) for key, value in module.state_dict().items())
        spec = resolve_model(str(own_checkpoint), **named)
        assert spec.label == "own_nets.Net-harmonized-seed-0"
        assert spec.build(CLASSES).hparams["model"] == NET
    with pytest.raises(ValueError, match="either ckpt=FILE or model=NAME"):
        resolve_model(str(own_checkpoint), "test_resnet")


def test_a_model_may_be_named_by_its_checkpoint(checkpoint):
    assert resolve_model(model=str(checkpoint)) == resolve_model(ckpt=str(checkpoint))


def test_weights_takes_a_file_and_old_values_are_refused(checkpoint, tmp_path):
    for old, new in (("raw", "false"), ("ema", "true")):
        with pytest.raises(ValueError, match=f"expected a file in weights=FILE, got {old}; try ema={new}"):
            resolve_model(ckpt=str(checkpoint), weights=old)
    with pytest.raises(ValueError, match="ema=true with ckpt=FILE only"):
        resolve_model(model="test_resnet", ema=True)
    path = tmp_path / "weights.pth"
    torch.save(build_model("test_resnet", num_classes=3).backbone.state_dict(), path)
    spec = resolve_model(model="test_resnet", weights=str(path), image_size=32)
    assert (spec.label, spec.seed) == ("test_resnet-weights", None)
    state = spec.build(CLASSES).model.backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in torch.load(path, weights_only=True).items())
    torch.save(build_model("test_resnet", num_classes=5).backbone.state_dict(), path)
    with pytest.raises(ValueError, match=r"has no head for these classes \(fc.weight, fc.bias\)"):
        spec.build(CLASSES)


def test_a_checkpoint_of_a_folder_model_needs_no_folder(tmp_path):
    backbone = build_model("test_resnet", num_classes=3).backbone
    backbone.pretrained_cfg.update(mean=(0.1, 0.2, 0.3), crop_pct=0.5)
    save_for_hf(backbone, tmp_path / "saved", safe_serialization=True)
    module = HarmonizerModule(str(tmp_path / "saved"), CLASSES, 32)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    shutil.rmtree(tmp_path / "saved")
    spec = resolve_model(ckpt=str(tmp_path / "a.ckpt"))
    assert (spec.architecture.name, spec.architecture.crop_ratio) == ("test_resnet", 0.5)
    restored = spec.build(CLASSES)
    assert torch.equal(restored.model.mean, module.model.mean)
    assert all(torch.equal(value, restored.state_dict()[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "hf-hub:org/net"}, "timm has no model 'hf-hub:org/net'"),
        ({"model": "FOLDER"}, "timm has no model"),
        ({"architecture": {"kind": "factory", "name": NET, "mean": [0] * 3, "std": [1] * 3}}, "a kind of timm, torchv"),
        (
            {"architecture": {"kind": "timm", "name": "hf-hub:a/b", "mean": [0] * 3, "std": [1] * 3}},
            "timm has no model",
        ),
        ({"architecture": {"name": "test_vit"}}, "expected the description of an architecture"),
    ],
)
def test_a_checkpoint_cannot_name_folders_addresses_or_code(checkpoint, tmp_path, settings, message):
    (tmp_path / "config.json").write_text('{"architecture": "test_vit"}')
    content = torch.load(checkpoint, weights_only=True)
    settings = {name: str(tmp_path) if value == "FOLDER" else value for name, value in settings.items()}
    content["hyper_parameters"] |= settings
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=message):
        restore(tmp_path / "a.ckpt")
