"""A name is a model of timm or torchvision, a folder, a Hub repository or a function; each mistake is one line."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from harmonizer.models import build_model, resolve
from harmonizer.models.factories import is_code

OWN = str(Path(__file__).with_name("own_nets.py"))
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resent50", r"timm has no model 'resent50'; did you mean resnet50"),
        ("resnet50.a1_in1", "timm has no weights 'resnet50.a1_in1'; it has resnet50.a1_in1k"),
        ("torchvision:resnt18", "no classifier 'resnt18'; did you mean torchvision:resnet18"),
        ("torchvision:resnet18.IMAGENET", "no weights 'resnet18.IMAGENET'; it has IMAGENET1K_V1"),
        ("torchvison:resnet18", "no module torchvison, expected MODULE:FUNCTION; did you mean torchvision:resnet18"),
        ("hf-hub:resnet50", "expected hf-hub:ORG/NAME, got hf-hub:resnet50"),
        ("local-dir:nowhere", "no folder at nowhere; expected an exported folder"),
        ("runs/nowhere", "no folder at runs/nowhere"),
        ("last.ckpt", r"got last.ckpt, a checkpoint; try evaluate.py, .*model=NAME weights=last.ckpt"),
        ("net.pth", "expected a model name, got net.pth, a file of weights; try model=NAME weights=net.pth"),
        (OWN, r"expected FILE.py:FUNCTION, got .*; try model=.*own_nets.py:Net"),
        (f"{OWN}:net", r"no function or class net; did you mean .*own_nets.py:Net\?"),
        (f"{OWN[:-3]}s.py:Net", r"no file at .*own_netss.py; expected FILE.py:FUNCTION"),
        ("no.such.module:make", "no module no.such.module, expected MODULE:FUNCTION"),
        ("", "expected model=NAME, got none"),
    ],
)
def test_a_wrong_name_is_refused_in_one_helpful_line(name, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        resolve(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", "own_nets.py:raises failed: RuntimeError: no weights.pt here$"),
        ("number", r"expected .*own_nets.py:number to return a torch.nn.Module, got int"),
        ("needs", r"needs cannot be called: missing a required argument: 'width'; .*model_args.KEY=VALUE"),
        ("fixed", r"fixed fails on an image \(1,3,32,32\): RuntimeError: .*; try another image_size=PIXELS"),
        ("unsized", r"the input size of .*unsized is unknown; try image_size=PIXELS"),
    ],
)
def test_a_function_without_a_usable_model_fails_in_one_line(function, message):
    with pytest.raises(ValueError, match=message) as error:
        build_model(f"{OWN}:{function}")
    assert "\n" not in str(error.value)


def test_too_few_logits_are_refused():
    with pytest.raises(ValueError, match="expected 5 logits, one per class of the data, got 3; let the function"):
        build_model(f"{OWN}:fixed", num_classes=5, image_size=16)


def test_a_model_that_returns_probabilities_causes_a_warning(capsys):
    build_model(f"{OWN}:probabilities")
    assert "probabilities returns probabilities, expected logits: remove its softmax" in capsys.readouterr().err
    build_model(f"{OWN}:Net")
    assert capsys.readouterr().err == ""


def test_a_function_gets_arguments_and_sets_its_preprocessing():
    model = build_model(f"{OWN}:Net", num_classes=5, model_args={"width": 4}).eval()
    assert model(IMAGES).shape == (2, 5)
    assert model.backbone.net[0].out_channels == 4
    assert (model.image_size, model.architecture.mean, model.architecture.std) == (
        32,
        (0.5, 0.4, 0.3),
        (0.25, 0.2, 0.1),
    )
    fed = (IMAGES - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.25, 0.2, 0.1]).view(3, 1, 1)
    torch.testing.assert_close(model(IMAGES), model.backbone(fed))
    other = build_model(f"{OWN}:Net", mean=[0, 0, 0], std=[1, 1, 1]).eval()
    torch.testing.assert_close(other(IMAGES), other.backbone(IMAGES))


def test_a_module_in_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_own_package").mkdir()
    shutil.copy(OWN, tmp_path / "my_own_package/nets.py")
    monkeypatch.chdir(tmp_path)
    assert build_model("my_own_package.nets:Net").image_size == 32


def test_outputs_with_a_logits_attribute_are_accepted():
    model = build_model(f"{OWN}:Transformers", second_order=True).train()
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert model.backbone.head.weight.grad.abs().sum() > 0


def test_torchvision_weights_define_the_preprocessing(monkeypatch):
    model = build_model("torchvision:resnet18", num_classes=4)
    assert model(IMAGES).shape == (2, 4)
    architecture = resolve("torchvision:regnet_y_16gf.IMAGENET1K_SWAG_E2E_V1")
    assert (architecture.size, architecture.crop_ratio, architecture.interpolation) == (384, 1.0, "bicubic")
    monkeypatch.setattr("harmonizer.models.torchvision_zoo.is_reachable", lambda address: False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: "nowhere")
    with pytest.raises(
        ValueError,
        match=r"resnet18.IMAGENET1K_V1 are not cached and cannot be downloaded; download https://.* weights=FILE",
    ):
        build_model("torchvision:resnet18.IMAGENET1K_V1")


@pytest.fixture
def folder(tmp_path):
    backbone = timm.create_model("test_resnet", num_classes=3)
    backbone.pretrained_cfg.update(mean=(0.1, 0.2, 0.3), input_size=(3, 48, 48))
    save_for_hf(backbone, tmp_path / "saved", model_config={"label_names": ["a", "b", "c"]}, safe_serialization=True)
    return tmp_path / "saved", backbone.eval()


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_folder_is_a_model_name(folder, prefix):
    path, backbone = folder
    model = build_model(f"{prefix}{path}").eval()
    assert (model.image_size, model.architecture.mean) == (48, (0.1, 0.2, 0.3))
    assert torch.equal(model(IMAGES), backbone((IMAGES - model.mean) / model.std))


def test_a_hub_model_is_downloaded_and_read_as_a_folder(folder, monkeypatch):
    asked = []
    monkeypatch.setattr("harmonizer.models.hub.cache_only_when_offline", lambda: pytest.MonkeyPatch.context())
    monkeypatch.setattr(
        "harmonizer.models.hub.snapshot_download",
        lambda name, **how: asked.append((name, how["revision"])) or folder[0],
    )
    model = build_model("hf-hub:org/net@v2").eval()
    assert asked == [("org/net", "v2")]
    assert torch.equal(model(IMAGES), folder[1]((IMAGES - model.mean) / model.std))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[1]", "expected the description of a model"),
        ("{", "config.json: expected JSON"),
        (
            json.dumps({"model_type": "vit"}),
            r"does not name a timm architecture; it is a transformers model: .*FILE.py:FUNCTION",
        ),
        (
            json.dumps({"architecture": f"{OWN}:Net"}),
            r"which is code and is not run automatically; try model=.*:Net weights=",
        ),
        (json.dumps({"architecture": "resent50"}), "did you mean resnet50"),
        (json.dumps({"architecture": "clip:hf-hub:org/net"}), "open_clip has no model 'hf-hub:org/net'"),
        (json.dumps({"architecture": "test_resnet", "head": ["own"]}), "expected a head of own, zero-shot, probe"),
        (json.dumps({"architecture": "test_resnet", "pretrained_cfg": {"std": [0, 1, 1]}}), "expected a positive std"),
        (
            json.dumps({"architecture": "test_resnet", "pretrained_cfg": {"input_size": 3}}),
            "expected a square input_size",
        ),
        (
            json.dumps({"architecture": "test_resnet", "pretrained_cfg": {"crop_pct": 3}}),
            r"expected crop_pct in \(0,2\]",
        ),
    ],
)
def test_a_folder_that_describes_no_model_is_refused(tmp_path, config, message):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=message):
        resolve(str(tmp_path))


def test_names_that_refer_to_code_are_recognised():
    assert [is_code(name) for name in ("a.py:f", "a/b.py:F", "a.b:f", "hf_hub:x", "resnet50.a1_in1k", "runs/a")] == (
        [True] * 3 + [False] * 3
    )


@pytest.mark.parametrize("lost", [None, "head", "net.0.weight", "net.1.running_mean"])
def test_weights_are_loaded_into_any_model_except_the_head(tmp_path, lost, capsys):
    torch.manual_seed(3)
    state = build_model(f"{OWN}:Net", num_classes=5).backbone.state_dict()
    kept = {name: value for name, value in state.items() if lost is None or not name.startswith(lost)}
    save_file(kept, tmp_path / "net.safetensors")
    torch.manual_seed(4)
    if lost in (None, "head"):
        loaded = build_model(f"{OWN}:Net", num_classes=7, weights=str(tmp_path / "net.safetensors")).backbone
        assert all(torch.equal(loaded.state_dict()[name], state[name]) for name in state if "head" not in name)
        assert len(loaded.head.weight) == 7
        assert "2 of the model's missing: head.weight, head.bias" in capsys.readouterr().out
    else:
        with pytest.raises(ValueError, match=f"1 of the model's 9 tensors are not in the file, {lost}"):
            build_model(f"{OWN}:Net", num_classes=7, weights=str(tmp_path / "net.safetensors"))
