"""Converted Keras weights give the logits of Keras itself, and a different configuration is refused.

The golden logits are those of Keras 3 on torch: ``python -m benchmarks.keras_weights --classes 10 --golden FILE``
writes them with the names and shapes of all weights. The weights are derived from these, so the tests write full-size
files.
"""

import json
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from keras_file import distance, write
from torch import nn

from harmonizer.models.convert_weights import main
from harmonizer.models.keras.architectures import ARCHITECTURES
from harmonizer.models.keras.hdf5 import KerasFile
from harmonizer.models.keras.mapping import check_config

LARGE = ("vgg16", "vit_base_patch16_224")  # half a gigabyte each
WHOLE = ("vgg16", "resnet50v2", "tf_efficientnet_b0")  # published with their configuration
MODELS = [pytest.param(arch.timm, marks=[pytest.mark.slow] * (arch.timm in LARGE)) for arch in ARCHITECTURES]


def with_epsilon(model, epsilon):
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = epsilon


def with_tanh(model):
    for block in model.blocks:
        block.mlp.act = nn.GELU(approximate="tanh")


def with_mirrored_tables(model):
    for name, value in model.named_parameters():
        if name.endswith("bias_table"):
            value.data = value.data.flip(1, 2)


def with_channels_before_pixels(model):
    weight = model.pre_logits.fc1.weight
    weight.data = weight.data.permute(0, 2, 3, 1).reshape(weight.shape)


def with_infinite_padding(model):
    model.stem.pad, model.stem.pool = nn.Identity(), nn.MaxPool2d(3, 2, padding=1)


def with_own_second_head(model):
    nn.init.normal_(model.head_dist.linear.weight, std=0.01)


BROKEN = {
    "vgg16": with_channels_before_pixels,
    "resnet50v2": with_infinite_padding,
    "tf_efficientnet_b0": partial(with_epsilon, epsilon=1e-5),
    "vit_base_patch16_224": with_tanh,
    "convnext_tiny": partial(with_epsilon, epsilon=1e-5),
    "levit_128": with_own_second_head,
    "maxvit_tiny_tf_224": with_mirrored_tables,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_network_gives_the_logits_of_keras(tmp_path, capsys, name):
    file = write(tmp_path / "weights.h5", name, whole=name in WHOLE)
    main([str(file), "--out", str(tmp_path / "folder")])
    assert capsys.readouterr().out == f"timm model: {tmp_path / 'folder'} ({name})\n"
    model = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    assert distance(model.eval(), name) < 5e-6
    BROKEN[name](model)
    assert distance(model, name) > 1e-5  # the comparison detects each known mistake
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["architecture"] == name and config["num_classes"] == 10
    assert config["pretrained_cfg"]["mean"] == [0.485, 0.456, 0.406]
    assert config["pretrained_cfg"]["std"] == [0.229, 0.224, 0.225]
    assert config["pretrained_cfg"]["input_size"] == [3, 224, 224]
    assert config["pretrained_cfg"]["tag"] is config["pretrained_cfg"]["license"] is None  # not those of timm's weights
    assert len(config["converted_from"]["sha256"]) == 64 and config["converted_from"]["file"] == "weights.h5"
    card = (tmp_path / "folder" / "README.md").read_text()
    assert config["converted_from"]["sha256"] in card and "@inproceedings{fel2022harmonizing" in card


# The configuration of a whole model


def checked(*layers):
    layers = [{"class_name": kind, "config": settings} for kind, settings in layers]
    config = {"class_name": "Functional", "config": {"layers": layers}}
    with torch.device("meta"):
        return check_config(KerasFile(Path("model.h5"), {}, config), timm.create_model("resnet50v2"))


def test_the_configuration_determines_the_last_activation():
    inputs = ("InputLayer", {"batch_input_shape": [None, 224, 224, 3]})
    assert checked(inputs, ("Dense", {"activation": "softmax"})) == "softmax"
    assert checked(inputs, ("Dense", {"activation": "linear"})) == "linear"
    assert checked(("InputLayer", {"batch_shape": [None, None, None, 3]}), ("Dense", {})) == "linear"
    assert checked(inputs, ("BatchNormalization", {"epsilon": 1.001e-5}), ("Dense", {})) == "linear"
    nested = {"layers": [{"class_name": "Dense", "config": {"activation": "softmax"}}]}
    assert checked(inputs, ("Functional", nested)) == "softmax"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (("Dense", {"activation": "sigmoid"}), "expected logits, or softmax after them, got 'sigmoid'"),
        (("Rescaling", {"scale": 1 / 255}), "no preprocessing in the model, got 'Rescaling'"),
        (("Conv2D", {"data_format": "channels_first"}), "expected channels last"),
        (("BatchNormalization", {"epsilon": 1e-3}), r"expected an epsilon of \[1.001e-05\], got 0.001"),
        (("BatchNormalization", {"epsilon": "1e-3"}), r"expected an epsilon of \[1.001e-05\], got '1e-3'"),
        (("InputLayer", {"batch_shape": [None, 256, 256, 3]}), "expected an input of 224 x 224 x 3"),
    ],
)
def test_an_unsupported_configuration_is_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        checked(layer)


@pytest.mark.parametrize(
    "between", ["", "MlpBlock_3/", "MlpBlock_3/Transformer_encoderblock_11_", "Transformer/encoderblock_11/"]
)
@pytest.mark.parametrize("slash", "/_")
def test_both_spellings_of_vit_keras_are_known(slash, between):
    (vit,) = (arch for arch in ARCHITECTURES if arch.timm.startswith("vit"))
    assert vit.module(f"Transformer{slash}encoderblock_11/{between}Dense_0") == "blocks.11.mlp.fc1"
    assert vit.module(f"Transformer{slash}encoderblock_11/MultiHeadDotProductAttention_1/out") == "blocks.11.attn.proj"
    assert vit.module(f"Transformer{slash}encoderblock_11/MultiHeadDotProductAttention_1/shout") is None
