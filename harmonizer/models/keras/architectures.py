"""The architectures of the published harmonized weights: layer names in Keras and module names in timm.

A rule maps a regular expression for the path of a layer to the name of a module. In the name, ``<1-2>`` is the number
in group 1 minus 2, ``<2-a>`` the distance of the letter in group 2 from ``a``, and ``<3>`` group 3 unchanged.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True, eq=False)
class Architecture:
    """One network in both libraries."""

    keras: str  # Keras's package and class
    timm: str  # name of the same model in timm
    rules: Mapping[str, str]  # modules by layer; see above
    copies: Mapping[str, str] = field(default_factory=dict)  # timm modules that copy the weights of another module

    def module(self, layer: str) -> str | None:
        r"""Return the module of a layer; None if there is none.

        >>> Architecture("", "", {r"block(\d+)([a-z])_conv": "blocks.<1-1>.<2-a>.conv"}).module("block2c_conv")
        'blocks.1.2.conv'
        """
        for pattern, module in self.rules.items():
            if found := re.fullmatch(pattern, layer, re.ASCII):
                return re.sub(r"<(\d)(?:-(\w))?>", partial(_fill, found), module)
        return None


def _fill(found: re.Match[str], gap: re.Match[str]) -> str:
    """Return the replacement of a placeholder in a module name."""
    text, base = found[int(gap[1])], gap[2]
    if base is None:
        return text
    return str(int(text) - int(base) if base.isdigit() else ord(text) - ord(base))


def _prefixed(before: str, after: str, rules: Mapping[str, str]) -> dict[str, str]:
    return {before + layer: after + module for layer, module in rules.items()}


def _normalised(rules: Mapping[str, str]) -> dict[str, str]:
    """Return rules for LeViT's linear layers, each with a BatchNorm."""
    linear = {rf"{layer}(?:_conv|_dense)?": f"{module}.linear" for layer, module in rules.items()}
    return linear | {f"{layer}_bn": f"{module}.bn" for layer, module in rules.items()}


VGG = {
    f"block{block}_conv{conv}": f"features.{first + 2 * conv - 2}"
    for block, first in enumerate((0, 5, 10, 17, 24), start=1)
    for conv in (1, 2, 3)
} | {"fc([12])": "pre_logits.fc<1-0>", "predictions": "head.fc"}

RESNET = {
    "conv1_conv": "stem.conv",
    **_prefixed(
        r"conv([2-5])_block(\d+)_",
        "stages.<1-2>.blocks.<2-1>.",
        {
            "preact_bn": "norm1",
            "1_bn": "norm2",
            "2_bn": "norm3",
            "0_conv": "downsample.conv",
            "([123])_conv": "conv<3-0>",
        },
    ),
    "post_bn": "norm",
    "predictions": "head.fc",
}

EFFICIENTNET = {
    "stem_conv": "conv_stem",
    "stem_bn": "bn1",
    "block1([a-z])_project_conv": "blocks.0.<1-a>.conv_pw",  # stage 1 does not expand
    "block1([a-z])_bn": "blocks.0.<1-a>.bn1",
    "block1([a-z])_project_bn": "blocks.0.<1-a>.bn2",
    **_prefixed(
        r"block(\d)([a-z])_",
        "blocks.<1-1>.<2-a>.",
        {
            "expand_conv": "conv_pw",
            "expand_bn": "bn1",
            "dwconv": "conv_dw",
            "bn": "bn2",
            "se_reduce": "se.conv_reduce",
            "se_expand": "se.conv_expand",
            "project_conv": "conv_pwl",
            "project_bn": "bn3",
        },
    ),
    "top_conv": "conv_head",
    "top_bn": "bn2",
    "probs|predictions": "classifier",
}

VIT = {
    "embedding": "patch_embed.proj",
    "class_token": "cls_token",
    "Transformer[/_]posembed_input": "pos_embed",
    **_prefixed(
        r"Transformer[/_]encoderblock_(\d+)/(?:.*[/_])?",
        "blocks.<1-0>.",
        {
            "LayerNorm_0": "norm1",
            "LayerNorm_2": "norm2",
            "(query|key|value)": "attn.<2>",
            "out": "attn.proj",
            "Dense_0": "mlp.fc1",
            "Dense_1": "mlp.fc2",
        },
    ),
    "Transformer[/_]encoder_norm": "norm",
    "head": "head",
}

CONVNEXT = {
    "stem_conv": "stem.0",
    "stem_ln": "stem.1",
    r"stack(\d)_downsample_ln": "stages.<1-1>.downsample.0",
    r"stack(\d)_downsample_conv": "stages.<1-1>.downsample.1",
    **_prefixed(
        r"stack(\d)_block(\d+)_",
        "stages.<1-1>.blocks.<2-1>.",
        {
            "(?:dw_conv|depthwise_conv)": "conv_dw",
            "ln": "norm",
            "up_dense": "mlp.fc1",
            "down_dense": "mlp.fc2",
            "gamma": "gamma",
        },
    ),
    "head_ln": "head.norm",
    "predictions": "head.fc",
}

_MLP = {"mlp_1": "mlp.ln1", "mlp_2": "mlp.ln2"}
_LEVIT_BLOCK = (r"stack(\d)_block(\d+)_", "stages.<1-1>.blocks.<2-1>.")
_LEVIT_DOWN = (r"stack(\d)_downsample_", "stages.<1-0>.downsample.")
_ATTENTION = "attn_downsample."
LEVIT = {
    **_normalised(
        {
            r"stem_(\d)": "stem.conv<1-0>",
            **_prefixed(*_LEVIT_BLOCK, {"qkv": "attn.qkv", "out": "attn.proj.ln", **_MLP}),
            **_prefixed(*_LEVIT_DOWN, _prefixed("", _ATTENTION, {"q": "q.ln", "kv": "kv", "out": "proj.ln"}) | _MLP),
            "head": "head",
        }
    ),
    **_prefixed(*_LEVIT_BLOCK, {"attn_pos": "attn.attention_biases"}),
    **_prefixed(*_LEVIT_DOWN, {"attn_pos": f"{_ATTENTION}attention_biases"}),
}

MAXVIT = {
    r"stem_([12])_conv": "stem.conv<1-0>",
    "stem_1_bn": "stem.norm1",
    **_prefixed(
        r"stack_(\d)_block_(\d+)/mbconv/",
        "stages.<1-1>.blocks.<2-1>.conv.",
        {
            "shortcut_conv": "shortcut.expand",
            "preact_bn": "pre_norm",
            "expand_conv": "conv1_1x1",
            "expand_bn": "norm1",
            "(?:MB_dw_conv|MB_depthwise_conv)": "conv2_kxk",
            "MB_dw_bn": "norm2",
            "se/([12])_conv": "se.fc<3-0>",
            "MB_pw_conv": "conv3_1x1",
        },
    ),
    **_prefixed(
        r"stack_(\d)_block_(\d+)/(block|grid)_",
        "stages.<1-1>.blocks.<2-1>.attn_<3>.",
        {
            "attn_preact_ln": "norm1",
            "window_mhsa/qkv_conv": "attn.qkv",
            "window_mhsa/(?:output|out)": "attn.proj",
            "window_mhsa/pos_emb": "attn.rel_pos.relative_position_bias_table",
            "ffn_preact_ln": "norm2",
            "ffn/([12])_dense": "mlp.fc<4-0>",
        },
    ),
    "post_ln": "head.norm",
    "features": "head.pre_logits.fc",
    "predictions": "head.fc",
}

KECAM = "keras_cv_attention_models"
ARCHITECTURES = (
    Architecture("keras.applications.VGG16", "vgg16", VGG),
    Architecture("keras.applications.ResNet50V2", "resnet50v2", RESNET),
    Architecture("efficientnet.EfficientNetB0", "tf_efficientnet_b0", EFFICIENTNET),
    Architecture("vit_keras.vit_b16", "vit_base_patch16_224", VIT),
    Architecture(f"{KECAM}.ConvNeXtTiny", "convnext_tiny", CONVNEXT),
    Architecture(f"{KECAM}.LeViT128", "levit_128", LEVIT, {"head_dist": "head"}),  # timm's mean of two heads
    Architecture(f"{KECAM}.MaxViT_Tiny", "maxvit_tiny_tf_224", MAXVIT),
)
