"""Layers on a CPU that round an image's values in the same way alone and in a batch.

An attack of a hundred steps amplifies a difference in the last digit until its result depends on the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SINGLE_WEIGHTS, SINGLE_KERNEL = 20_480, 3  # up to here torch, on one thread, has special kernels for a single image
ROWS = 64  # rows per product: the order in which BLAS sums a row depends on their number


def is_single(inputs: Tensor, weight: Tensor) -> bool:
    """Return whether torch convolves this single image (1,C,H,W) by another kernel than several images."""
    return len(inputs) == 1 and max(weight.shape[2:]) <= SINGLE_KERNEL and weight.numel() <= SINGLE_WEIGHTS


def conv2d_single(inputs: Tensor, weight: Tensor, bias: Tensor | None, *geometry: object) -> Tensor:
    """Return ``torch.conv2d`` of one image, computed in a batch of two copies; the second gets no gradient."""
    outputs: Tensor = torch.conv2d(torch.cat([inputs, inputs]), weight, bias, *geometry)  # type: ignore[call-overload]
    return outputs[:1]


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """Return ``F.linear`` of rows (n,K) on a CPU in blocks of :data:`ROWS` rows, padded with zeros, or None."""
    if inputs.ndim != 2 or inputs.device.type != "cpu" or len(inputs) in (0, ROWS):
        return None
    blocks = [F.linear(_filled(block), weight, bias)[: len(block)] for block in torch.split(inputs, ROWS)]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def _filled(rows: Tensor) -> Tensor:
    return rows if len(rows) == ROWS else F.pad(rows, (0, 0, 0, ROWS - len(rows)))
