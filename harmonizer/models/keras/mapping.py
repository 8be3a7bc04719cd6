"""Map Keras's arrays to the tensors of a timm model: names, axes and shapes."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harmonizer.models.keras.architectures import ARCHITECTURES, Architecture
from harmonizer.models.keras.hdf5 import KerasFile
from harmonizer.untrusted import shortened

INPUT = 224  # input size of all published weights in pixels
KINDS = {
    "kernel": ".weight",
    "depthwise_kernel": ".weight",
    "gamma": ".weight",
    "beta": ".bias",
    "bias": ".bias",
    "moving_mean": ".running_mean",
    "moving_variance": ".running_var",
} | dict.fromkeys(("weight", "cls", "pos_embedding", "positional_embedding"), "")


def find_architecture(file: KerasFile) -> Architecture:
    """Return the architecture whose layers a file holds.

    Raises:
        ValueError: There is none; the message names the weights that the nearest architecture lacks.
    """
    unknown = {arch: [name for name in file.weights if _target(arch, name) is None] for arch in ARCHITECTURES}
    arch = min(unknown, key=lambda candidate: len(unknown[candidate]))
    if len(unknown[arch]) == len(file.weights):
        known = ", ".join(candidate.keras for candidate in ARCHITECTURES)
        first = ", ".join(shortened(name) for name in list(file.weights)[:3]) or "no weights"
        raise ValueError(f"{file.path}: expected weights of one of {known}, got {first}")
    if unknown[arch]:
        raise ValueError(f"{file.path}: {arch.keras} has no weights {_some(unknown[arch])}; nothing is converted")
    return arch


def count_classes(file: KerasFile, arch: Architecture, head: str) -> int:
    """Return the number of classes; ``head`` is timm's name of the head.

    Raises:
        ValueError: The file has no bias for the head.
    """
    for name, array in file.weights.items():
        if _target(arch, name) == f"{head}.bias" and len(array.shape) == 1:
            return int(array.shape[0])
    raise ValueError(f"{file.path}: expected a classifier, got no bias of {arch.timm}'s {head}; is the top missing?")


def to_timm(file: KerasFile, arch: Architecture, model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a timm model with a file's weights.

    Raises:
        ValueError: A weight is missing, duplicated, unknown, or has another shape; the message names it.
    """
    own = model.state_dict()
    state: dict[str, Tensor] = {}
    for name, array in file.weights.items():
        target = _target(arch, name)
        shape = _shape(own, target or "")
        if target is None or shape is None or target in state:
            raise ValueError(f"{file.path}: {arch.keras} has no weights {shortened(name)}, or has them under two names")
        state[target] = _laid_out(file, name, array, shape)
    for name in [name for name in state if ".query." in name]:  # timm joins query, key and value
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in state for part in parts):
            state[name.replace(".query.", ".qkv.")] = torch.cat([state.pop(part) for part in parts])
    for copy, source in arch.copies.items():
        taken = [name for name in state if name.startswith(f"{source}.")]
        state |= {copy + name.removeprefix(source): state[name].clone() for name in taken}
    counters = {
        name: torch.zeros(value.shape, dtype=value.dtype)
        for name, value in own.items()
        if not value.is_floating_point()
    }
    if missing := [name for name in own if name not in state and name not in counters]:
        raise ValueError(f"{file.path}: expected all weights of {arch.timm}, got none for {_some(missing)}")
    return state | counters


def check_config(file: KerasFile, model: nn.Module) -> str | None:
    """Check a whole model's ``model_config`` against timm's model; return the activation after the logits.

    Raises:
        ValueError: Channels come first, the input has another size or is rescaled by the model, an epsilon differs, or
            the last activation is neither linear nor softmax.
    """
    if file.config is None:
        return None
    layers = list(_layers(file.config))
    epsilons = [eps for eps in {getattr(module, "eps", None) for module in model.modules()} if isinstance(eps, float)]
    for kind, settings in layers:
        where = f"{file.path}: layer {shortened(settings.get('name'))} of model_config"
        if kind in ("Rescaling", "Normalization") or settings.get("data_format") == "channels_first":
            raise ValueError(
                f"{where}: expected channels last and no preprocessing in the model, got {shortened(kind)}"
            )
        size = settings.get("batch_input_shape") or settings.get("batch_shape")
        if kind == "InputLayer" and size not in ([None, INPUT, INPUT, 3], [None, None, None, 3]):
            raise ValueError(f"{where}: expected an input of {INPUT} x {INPUT} x 3, got {shortened(size)}")
        epsilon = settings.get("epsilon")
        fits = isinstance(epsilon, float) and any(math.isclose(epsilon, own, rel_tol=1e-3) for own in epsilons)
        if epsilon is not None and not fits:
            raise ValueError(f"{where}: expected an epsilon of {sorted(epsilons)}, got {shortened(epsilon)}")
    last = layers[-1][1].get("activation", "linear") if layers else "linear"
    if last not in ("linear", "softmax"):
        raise ValueError(f"{file.path}: expected logits, or softmax after them, got {shortened(last)}")
    return str(last)


def _target(arch: Architecture, name: str) -> str | None:
    """Return timm's name of a Keras weight; None if there is none."""
    layer, _, kind = name.rpartition("/")
    module = arch.module(layer)
    return None if module is None or kind not in KINDS else module + KINDS[kind]


def _shape(own: Mapping[str, Tensor], target: str) -> tuple[int, ...] | None:
    """Return the shape of a tensor in timm's layout; a third of it if timm joins query, key and value."""
    joined = re.sub(r"\.(?:query|key|value)(?=\.\w+$)", ".qkv", target)
    if joined != target and joined in own:
        return (len(own[joined]) // 3, *own[joined].shape[1:])
    return tuple(own[target].shape) if target in own else None


def _laid_out(file: KerasFile, name: str, array: Any, shape: tuple[int, ...]) -> Tensor:  # noqa: ANN401 - h5py's
    """Check an array's shape, read it and return it in timm's layout."""
    kind = name.rpartition("/")[2]
    expected = [shape]
    if kind.endswith("kernel"):
        out, inner, high, wide = (*shape, 1, 1)[:4]
        is_depthwise = len(shape) == 4 and inner == 1
        expected = (
            [(high, wide, out, inner)] if is_depthwise else [(high, wide, inner, out), (high * wide * inner, out)]
        )
    elif kind == "positional_embedding":
        expected = [shape[::-1]] if len(shape) == 2 else [(shape[0], shape[1] * shape[2])]
    if array.shape not in expected:
        wanted = " or ".join(map(str, dict.fromkeys(expected)))
        raise ValueError(f"{file.path}: expected {shortened(name)} of shape {wanted}, got {array.shape}")
    value = torch.from_numpy(np.asarray(array[()], dtype=np.float32))
    if kind.endswith("kernel"):
        # The inputs of a dense layer after Flatten are ordered by height, width, channel.
        value = value.reshape(expected[0]).permute((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1)).reshape(shape)
    elif kind == "positional_embedding":
        # LeViT: (N,heads); MaxViT: query minus key, where timm has key minus query.
        value = value.T if len(shape) == 2 else value.reshape(shape).flip(1, 2)
    return value.contiguous()


def _layers(config: Any) -> Iterator[tuple[object, Mapping[str, Any]]]:  # noqa: ANN401 - JSON
    """Yield kind and settings of the layers in ``model_config``, including nested models."""
    settings = config.get("config") if isinstance(config, dict) else None
    if not isinstance(settings, dict):
        return
    layers = settings.get("layers")
    if not isinstance(layers, list):
        yield config.get("class_name"), settings
        return
    for layer in layers:
        yield from _layers(layer)


def _some(names: list[str]) -> str:
    return ", ".join(shortened(name) for name in names[:3]) + f" and {len(names) - 3} others" * (len(names) > 3)
