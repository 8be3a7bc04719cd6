"""A checkpoint is data: types and limits are checked before anything is built."""

import os
import time
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from callbacks.checkpoint import BestCheckpoint
from harmonizer.evaluation.checkpoint import restore
from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.export import export
from harmonizer.models.weights import read_weights
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.untrusted import LONGEST_TEXT, MOST_CLASSES, MOST_PICKLE

SECRET = "${oc.env:SECRET}"
CODE = {"_target_": "os.mkdir", "path": "made"}


def changed(content, path, state=None, **settings):
    torch.save(
        content
        | {
            "hyper_parameters": content["hyper_parameters"] | settings,
            "state_dict": content["state_dict"] | (state or {}),
        },
        path,
    )
    return path


def test_the_unchanged_checkpoint_is_valid(content, tmp_path):
    restore(changed(content, tmp_path / "good.ckpt"))
    assert resolve_model(ckpt=str(tmp_path / "good.ckpt")).label == "test_resnet-control-seed-5"


WRONG = {
    "model is no text": ({"model": 3}, "expected model to be of type str, got 3"),
    "model is code": ({"model": CODE}, "expected model to be of type str"),
    "model is a long text": ({"model": "x" * 100_000}, "of 1 to 500 characters"),
    "model is a resolver": ({"model": SECRET}, "timm has no model '\\${oc"),
    "seed is a path": ({"seed": "../../x"}, r"expected seed to be of type int, got '\.\./\.\./x'"),
    "seed is huge": ({"seed": 10**200}, "and a seed"),
    "seed is a switch": ({"seed": True}, "expected seed to be of type int"),
    "image_size is a million": ({"image_size": 10**6}, "expected an image_size from 1 to 8192"),
    "image_size is 0": ({"image_size": 0}, "expected an image_size from 1 to 8192"),
    "image_size is a text": ({"image_size": "32"}, "expected image_size to be of type int"),
    "harmonize is a text": ({"harmonize": "no"}, "expected harmonize to be of type bool"),
    "classes are too many": ({"classes": ["c"] * (MOST_CLASSES + 1)}, "classes has 1000001 values"),
    "classes are more than the head's": (
        {"classes": ["c"] * 500_000},
        "one row for each of its 500000 classes, got none",
    ),
    "classes are a text": ({"classes": "abc"}, "expected classes to be of type list"),
    "classes are numbers": ({"classes": [1, 2, 3]}, "plain values for classes"),
    "classes have long names": ({"classes": ["a", "b", "x" * (LONGEST_TEXT + 1)]}, "of 1 to 500 characters"),
    "classes have terminal codes": ({"classes": ["a", "b", "\x1b[2J"]}, "without control characters"),
    "a setting is nested": ({"levels": [[[1]]]}, "expected plain values for levels"),
    "a setting is a mapping": ({"levels": {"a": 1}}, "expected plain values for levels"),
    "a setting is a tensor": ({"lr": torch.ones(2)}, "expected plain values for lr"),
    "a setting is unknown": ({"nothing": 1}, "does not fit the model"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_checkpoint_is_checked_before_anything_is_built(content, tmp_path, case, monkeypatch):
    settings, message = WRONG[case]
    path = changed(content, tmp_path / "last.ckpt", **settings)
    start = time.monotonic()
    if case not in ("model is a resolver", "a setting is unknown"):
        monkeypatch.setattr("harmonizer.evaluation.checkpoint.HarmonizerModule", None)
        with pytest.raises(ValueError, match=message):
            resolve_model(ckpt=str(path))
    with pytest.raises(ValueError, match=message) as error:
        restore(path)
    assert time.monotonic() - start < 20
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("settings", "state", "message"),
    [
        ({"model": "vit_giant_patch14_224"}, {}, r"expected cls_token of vit_giant_patch14_224 .* got none"),
        (
            {"classes": [f"c{i}" for i in range(900_000)], "model": "resnet50"},
            {"x": torch.ones(900_000)},
            r"expected conv1.weight of resnet50 to have the shape .*, got none",
        ),
        ({"classes": ["c"] * 900_000}, {"x": torch.ones(900_000, 0)}, r"shape \(900000, \d+\), got \(3, \d+\)"),
        ({"model": "vit_base_patch16_224", "image_size": 8192}, {}, "got none"),
        ({"model": "vit_base_patch16_224", "image_size": 7}, {}, "does not fit the model that it names"),
        ({}, {"zzz": torch.ones(3)}, r'Unexpected key\(s\) in state_dict: "zzz"'),
    ],
)
def test_a_model_without_matching_weights_takes_no_memory(content, tmp_path, monkeypatch, settings, state, message):
    path = changed(content, tmp_path / "last.ckpt", state, **settings)
    if "zzz" not in state:
        monkeypatch.setattr("harmonizer.evaluation.checkpoint.HarmonizerModule", None)
    with pytest.raises(ValueError, match=message) as error:
        restore(path)
    assert len(str(error.value)) < 1000 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.backbone.conv1.weight", None, "expected tensors by name"),
        ("model.backbone.conv1.weight", 3.0, "expected tensors by name"),
        (3, torch.ones(1), "expected tensors by name, got 3"),
        ("x", torch.ones(10, dtype=torch.complex64), "expected finite real numbers in x"),
        ("x", torch.ones(10, dtype=torch.int8), "got torch.int8"),
        ("x", torch.ones(10).to(torch.float8_e4m3fn), "got torch.float8_e4m3fn"),
        ("x.weight", torch.ones(10, dtype=torch.int64), "floats in x.weight, got torch.int64"),
        ("x", torch.ones(10, device="meta"), "expected each of the 10 values of x"),
        ("x", torch.ones(1).expand(10**9), "expected each of the 1000000000 values of x"),
        ("x", torch.tensor([1.0, float("nan")]), "expected finite real numbers in x"),
        ("x", torch.tensor([1.0, float("inf")]), "expected finite real numbers in x"),
    ],
)
def test_weights_must_be_finite_floats(content, tmp_path, name, value, message):
    path = changed(content, tmp_path / "last.ckpt", state={name: value})
    with pytest.raises(ValueError, match=message):
        restore(path)
    if name == 3:
        return  # weight files of other programs may have such keys
    torch.save({"conv.weight": torch.ones(2), name: value}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"{message}|holds no weights"):
        read_weights(tmp_path / "weights.pth")


def test_int8_weights_are_refused_from_safetensors_too(tmp_path):
    save_file({"conv.weight": torch.ones(2, dtype=torch.int8)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"expected floats in conv\.weight, got torch\.int8"):
        read_weights(tmp_path / "w.safetensors")


def test_an_integer_in_place_of_a_float_weight_is_refused(content, tmp_path):
    """load_state_dict would silently copy an integer tensor into a float one."""
    name = next(name for name in content["state_dict"] if name.endswith("running_mean"))
    whole = content["state_dict"][name].to(torch.int64)
    with pytest.raises(ValueError, match=f"{name} is torch.int64, expected torch.float32"):
        restore(changed(content, tmp_path / "last.ckpt", state={name: whole}))


@pytest.mark.parametrize("read", [read_checkpoint, read_weights])
def test_a_compressed_or_oversized_file_is_refused(content, tmp_path, read):
    plain, deflated, long = (
        changed(content, tmp_path / "plain.ckpt"),
        tmp_path / "deflated.ckpt",
        tmp_path / "long.ckpt",
    )
    read(plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
        target.writestr("archive/zeros", bytes(10**7))
    assert deflated.stat().st_size < 10**7
    with pytest.raises(ValueError, match=r"deflated\.ckpt is truncated or damaged \(its content is compressed"):
        read(deflated)
    with zipfile.ZipFile(long, "w") as target:
        target.writestr("archive/data.pkl", bytes(MOST_PICKLE + 1))
    with pytest.raises(ValueError, match="more than 67108864 bytes of names and plain values"):
        read(long)


def test_a_checkpoint_cannot_name_files_outside_its_run(tmp_path):
    """Lightning deletes the best checkpoint named in the file once there is a better one."""
    run, other = tmp_path / "run", tmp_path / "precious"
    best = BestCheckpoint(dirpath=run, filename="best", monitor="val/accuracy", mode="max")
    hostile = f"{run}/../precious"
    state = {
        "dirpath": best.dirpath,
        "best_model_path": hostile,
        "best_model_score": torch.tensor(0.1),
        "kth_best_model_path": hostile,
        "last_model_path": str(other),
        "best_k_models": {hostile: torch.tensor(0.1)},
    }
    best.load_state_dict(state)
    paths = [best.best_model_path, best.kth_best_model_path, best.last_model_path, *best.best_k_models]
    assert {os.path.realpath(path) for path in paths} == {os.path.realpath(run / "precious")}
    best.load_state_dict(state | {"best_model_path": "", "best_k_models": {str(run / "best.ckpt"): torch.tensor(0.1)}})
    assert (best.best_model_path, list(best.best_k_models)) == ("", [os.path.realpath(run / "best.ckpt")])
    with pytest.raises(ValueError, match="expected a file name"):
        best.load_state_dict(state | {"best_model_path": f"{run}/.."})


def test_a_checkpoint_writes_no_markdown_into_a_model_card(content, tmp_path):
    path = tmp_path / "last.ckpt"
    for data in ([1], {"a\n# b": "c"}, {"a": "b\n# c"}, {"a": 3}):
        torch.save(content | {"data_sha256": data}, path)
        with pytest.raises(ValueError, match="data_sha256"):
            export(path, tmp_path / "out")
        assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
