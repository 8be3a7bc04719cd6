"""Rows of convolutions and ReLUs in a model under attack, each run as one function of the images on a CPU."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from harmonizer.fast.blocks.functional import convolve
from harmonizer.fast.cpu.conv_relu import Link
from harmonizer.fast.cpu.small_conv import LEAST_CHANNELS
from harmonizer.fast.patch import Forward, has_hooks_or_override


def sequences(model: nn.Module) -> dict[nn.Module, Forward]:
    """Return the modules of a model that hold such rows, and how to run them.

    >>> stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> list(sequences(stem)) == [stem]
    True
    """
    found = (module for module in model.modules() if type(module) is nn.Sequential)
    return {module: _run for module in found if any(_links(a) and type(b) is nn.ReLU for a, b in pairwise(module))}


def _run(layers: nn.Sequential, inputs: Tensor) -> Tensor:
    """Run the layers one after the other, and rows of convolutions and ReLUs as one."""
    # An image alone is left to layers that give it the same values as in company, in ways of their own.
    whole = inputs.ndim == 4 and len(inputs) > 1 and not torch.is_autocast_enabled(inputs.device.type)
    for row in _rows(layers):
        if whole and len(row) > 1:
            inputs = convolve(inputs, _as_links(row))
        else:
            for layer in row:
                inputs = layer(inputs)
    return inputs


def _rows(layers: nn.Sequential) -> Iterator[list[nn.Module]]:
    """Return convolutions with ReLUs after some of them, and every other layer by itself."""
    row: list[nn.Module] = []
    for layer in layers:
        if _links(layer) or (
            row and type(layer) is nn.ReLU and type(row[-1]) is nn.Conv2d and not has_hooks_or_override(layer)
        ):
            row.append(layer)
            continue
        if row:
            yield row
        row = []
        yield [layer]
    if row:
        yield row


def _links(layer: Any) -> bool:
    """Tell whether a layer is a convolution with weights of its own, and torch's way of running it the fast one."""
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and layer.weight.grad_fn is None
        and min(layer.weight.shape[:2]) < LEAST_CHANNELS
        and (layer.kernel_size != layer.stride or layer.kernel_size == (1, 1))
        and not has_hooks_or_override(layer)
    )


def _as_links(row: list[Any]) -> list[Link]:
    active = [type(layer) is nn.ReLU for layer in row[1:]] + [False]
    return [
        Link(layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups, follows)
        for layer, follows in zip(row, active, strict=True)
        if not isinstance(layer, nn.ReLU)
    ]
