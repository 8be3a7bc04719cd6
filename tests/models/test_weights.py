"""``weights=FILE`` reads common formats, loads everything except the head, and states what it loaded."""

import argparse
import json
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harmonizer.models import build_model
from harmonizer.models.weights import read_weights, with_head
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.training.module import HarmonizerModule


@pytest.fixture(scope="module")
def resnet():
    """Weights of a network whose running statistics differ from a new network's."""
    torch.manual_seed(1)
    backbone = build_model("test_resnet", num_classes=5, image_size=32).backbone.train()
    with torch.no_grad():
        backbone(torch.rand(8, 3, 32, 32))
    return {name: value.clone() for name, value in backbone.state_dict().items()}


def built(path, name="test_resnet", classes=7):
    torch.manual_seed(2)
    return build_model(name, num_classes=classes, image_size=32, weights=str(path)).backbone.state_dict()


def assert_loaded(state, weights, heads=("fc.",)):
    for name, value in weights.items():
        if not name.startswith(heads):
            assert torch.equal(state[name], value), name


def prefixed(prefix, weights):
    return {f"{prefix}{name}": value for name, value in weights.items()}


@pytest.mark.parametrize(
    "content",
    [
        lambda w: w,
        lambda w: prefixed("model.", w),
        lambda w: prefixed("module.", w),
        lambda w: prefixed("net.", w),
        lambda w: prefixed("_orig_mod.", w),
        lambda w: prefixed("module._orig_mod.model.backbone.", w),
        lambda w: {"state_dict": prefixed("model._orig_mod.", w) | {"loss.weight": torch.ones(2)}},
        lambda w: {"state_dict_ema": prefixed("module.", w)},
        lambda w: {"model": w, "optimizer": {"state": {0: {"step": 3}}}},
        lambda w: {"state_dict": w, "arch": "test_resnet", "args": argparse.Namespace(lr=0.1, opt="sgd"), "epoch": 3},
    ],
)
def test_weights_in_any_common_wrapper_are_loaded(tmp_path, capsys, resnet, content):
    torch.save(content(resnet), tmp_path / "weights.pth")
    state = built(tmp_path / "weights.pth")
    assert_loaded(state, resnet)
    assert len(state["fc.weight"]) == 7
    left = 3 if "loss.weight" in content(resnet).get("state_dict", {}) else 2
    said = capsys.readouterr().out
    assert f"{len(resnet) - 2} tensors loaded, {left} left: " in said
    assert said.endswith("fc.bias, fc.weight, 2 of the model's missing: fc.weight, fc.bias\n")


def test_weights_are_read_from_an_exported_folder(tmp_path, resnet, capsys):
    with pytest.raises(FileNotFoundError, match=r"no weights in the folder .*expected one of model.safetensors"):
        built(tmp_path)
    save_file(resnet, tmp_path / "model.safetensors")
    assert_loaded(built(tmp_path, classes=5), resnet, heads=("nothing",))
    assert f"{len(resnet)} tensors loaded, 0 left, 0 of the model's missing" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["layer1.0.conv1.weight", "layer1.0.bn1.running_mean", "layer1.0.bn1.running_var"])
def test_everything_except_the_head_must_be_in_the_file(tmp_path, resnet, lost):
    save_file({name: value for name, value in resnet.items() if name != lost}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=rf"1 of the model's \d+ tensors are not in the file, {re.escape(lost)}"):
        built(tmp_path / "weights.safetensors")


def test_weights_of_another_model_are_refused(tmp_path, resnet):
    save_file(prefixed("encoder.", resnet), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"not in the file, conv1.0.weight.*is it another model's\?") as caught:
        built(tmp_path / "weights.safetensors")
    assert "\n" not in str(caught.value)
    other = resnet | {"conv1.0.weight": torch.ones(3, 3, 3, 3)}
    save_file(other, tmp_path / "shape.safetensors")
    with pytest.raises(ValueError, match=r"belongs to another model: size mismatch for conv1.0.weight") as caught:
        built(tmp_path / "shape.safetensors")
    assert "\n" not in str(caught.value)
    assert nn.Module.load_state_dict.__module__ == "torch.nn.modules.module"


def test_weights_that_are_not_finite_floats_are_refused(tmp_path, resnet):
    for value, message in (
        (torch.full((2,), torch.nan), "expected finite real numbers"),
        (torch.ones(2, dtype=torch.complex64), "expected finite real numbers"),
    ):
        torch.save(resnet | {"bn1.bias": value}, tmp_path / "weights.pth")
        with pytest.raises(ValueError, match=message):
            read_weights(tmp_path / "weights.pth")
    torch.save(resnet | {"bn1.bias": torch.ones_like(resnet["bn1.bias"], dtype=torch.int8)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"expected floats in bn1.bias, got torch.int8"):
        built(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s", "efficientformer_l1"])
def test_weights_load_into_two_headed_models_except_the_heads(tmp_path, name):
    torch.manual_seed(1)
    weights = build_model(name, num_classes=5).backbone.state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    backbone = build_model(name, num_classes=7, weights=str(tmp_path / "weights.safetensors")).backbone
    heads = tuple(f"{head}." for head in backbone.pretrained_cfg["classifier"])
    assert len(heads) == 2
    assert_loaded(backbone.state_dict(), weights, heads)
    assert all(len(backbone.state_dict()[f"{head}bias"]) == 7 for head in heads)


def test_safetensors_are_refused_as_a_checkpoint(tmp_path, resnet):
    path = tmp_path / "model.safetensors"
    save_file(resnet, path)
    with pytest.raises(
        ValueError, match=r"holds weights alone \(safetensors.*--model NAME weights=.*model.safetensors"
    ):
        read_checkpoint(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"truncated or damaged"):
        read_checkpoint(path)


def test_a_url_is_refused_as_a_weights_file():
    with pytest.raises(ValueError, match=r"expected a local file of weights, got https://a/b.pth; download it first"):
        read_weights("https://a/b.pth")


def kept_names(place, weights, names, kind):
    """Write weights with the names of their classes, as train.py or an export does."""
    if kind == "checkpoint":
        torch.save({"state_dict": prefixed("model.backbone.", weights), "hyper_parameters": {"classes": names}}, place)
        return place
    folder = place.with_suffix("")
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"label_names": names}))
    return folder


@pytest.mark.parametrize("kind", ["checkpoint", "export"])
def test_a_head_in_another_class_order_is_refused(tmp_path, capsys, kind):
    torch.manual_seed(0)
    weights = build_model("test_resnet", num_classes=3).backbone.state_dict()
    path = kept_names(tmp_path / "a.pth", weights, ["cat", "dog", "eel"], kind)
    with pytest.raises(ValueError, match=r"order of the head in .*a.*, got 'dog' for its class 0, 'cat'; try data"):
        HarmonizerModule("test_resnet", ["dog", "cat", "eel"], 32, weights=str(path))
    module = HarmonizerModule("test_resnet", ["cat", "dog", "eel"], 32, weights=str(path))
    assert_loaded(module.model.backbone.state_dict(), weights, heads=("nothing",))
    assert "note" not in capsys.readouterr().out
    HarmonizerModule("test_resnet", ["cat", "dog", "fox"], 32, weights=str(path))
    assert "is for other classes than the data's: its class 2 is 'eel', not 'fox'; training starts" in (
        " ".join(capsys.readouterr().out.split())
    )
    HarmonizerModule("test_resnet", ["dog", "cat", "eel", "fox"], 32, weights=str(path))
    assert "note" not in capsys.readouterr().out
    with with_head(), pytest.raises(ValueError, match=r"other classes than the data's: .*try data with its classes"):
        HarmonizerModule("test_resnet", ["cat", "dog", "fox"], 32, weights=str(path))
