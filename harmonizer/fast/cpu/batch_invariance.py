"""Layers on a CPU that round an image's values in the same way alone as in the company of others.

An attack of a hundred steps widens a difference in the last digit until what it finds depends on the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SINGLE_WEIGHTS, SINGLE_KERNEL = (
    20_480,
    3,
)  # torch, on one thread, convolves an image alone by kernels of its own up to here
ROWS = 64  # of each product: the order in which BLAS adds up a row depends on how many there are


def is_single(inputs: Tensor, weight: Tensor) -> bool:
    """Tell whether torch would treat this one image (1,C,H,W) in another way than several."""
    return len(inputs) == 1 and max(weight.shape[2:]) <= SINGLE_KERNEL and weight.numel() <= SINGLE_WEIGHTS


def conv2d_single(inputs: Tensor, weight: Tensor, bias: Tensor | None, *geometry: object) -> Tensor:
    """Do as ``torch.conv2d`` of one image, with its double beside it; no gradient comes from that."""
    outputs: Tensor = torch.conv2d(torch.cat([inputs, inputs]), weight, bias, *geometry)  # type: ignore[call-overload]
    return outputs[:1]


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """Do as ``F.linear`` of rows (n,K) on a CPU, in products of :data:`ROWS` rows, some of zeros; None elsewhere."""
    if inputs.ndim != 2 or inputs.device.type != "cpu" or len(inputs) in (0, ROWS):
        return None
    blocks = [F.linear(_filled(block), weight, bias)[: len(block)] for block in torch.split(inputs, ROWS)]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def _filled(rows: Tensor) -> Tensor:
    return rows if len(rows) == ROWS else F.pad(rows, (0, 0, 0, ROWS - len(rows)))
