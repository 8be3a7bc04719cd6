"""The gradient of the image through a network's first convolution, on a CPU."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.fast.cpu import batch_invariance
from harmonizer.fast.switch import fast

Pair = tuple[int, int]

FEW = 4  # most input channels of a convolution of images
LANES = 16  # output channels that kernels always compute at once
LARGE = 4  # least taps per side of the convolution of the gradient for a gain in a harmonized step, too


def is_supported(tensor: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """Return whether :func:`image_gradient` is faster for a convolution of ``tensor``, or for a gradient ``tensor``."""
    (_, channels, *kernel), step = weight.shape, stride[0]
    return (
        fast.enables("stem_gradient")
        and tensor.device.type == "cpu"
        and channels <= FEW
        and kernel[0] == kernel[1] > step == stride[1]
        and padding[0] == padding[1]
        and dilation == (1, 1)
        and groups == 1
    )


def is_large(weight: Tensor, stride: Pair, padding: Pair) -> bool:
    """Return whether a supported convolution takes a large share of a step: stride above 1, a large kernel."""
    return stride[0] > 1 and len(_offsets(weight.shape[2], stride[0], padding[0], stride[0])) >= LARGE


class ImageConvolution(Function):
    """``torch.conv2d`` of images with a constant weight, and :func:`image_gradient`."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.rest = (images.shape[2:], stride, padding)
        if batch_invariance.is_single(images, weight):  # a Function must not return a view
            return batch_invariance.conv2d_single(images, weight, bias, stride, padding).clone()
        return torch.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return image_gradient(gradient, *ctx.saved_tensors, *ctx.rest), None, None, None, None


def image_gradient(gradient: Tensor, weight: Tensor, size: Sequence[int], stride: int, padding: int) -> Tensor:
    """Return the gradient of a convolution's few input channels, from that of its output.

    A transposed convolution with three output channels uses a small part of a vector register. Here the pixels of a
    block of ``b`` x ``b``, where b is the stride or 2, are the channels of one convolution of the output's gradient,
    and are rearranged afterwards.

    Args:
        gradient: Gradient of the output, (B,O,h,w).
        weight: (O,C,k,k), C at most four.
        size: Height and width of the input, H and W.
        stride: Stride of the convolution.
        padding: Padding of the convolution.

    Returns:
        (B,C,H,W), channels last.
    """
    block = max(stride, 2)
    spread, first = _spread(weight, stride, padding, block)
    step = block // stride  # from a block to the next, in outputs
    blocks = [math.ceil(length / block) for length in size]
    reach = [step * (n - 1) + first + spread.shape[-1] for n in blocks]  # one past the last block's last output
    margin = max(-first, *(end - length for end, length in zip(reach, gradient.shape[2:], strict=True)), 0)
    margin += -(margin + first) % step
    skip = (margin + first) // step
    convolve = batch_invariance.conv2d_single if batch_invariance.is_single(gradient, spread) else torch.conv2d
    values = convolve(gradient, spread, None, step, margin).permute(0, 2, 3, 1)
    channels = weight.shape[1]
    values = values[:, skip : skip + blocks[0], skip : skip + blocks[1], : block * block * channels]
    rows = values.reshape(*values.shape[:3], block, block * channels).transpose(2, 3)  # (B, h, block's rows, w, rest)
    pixels = rows.reshape(len(gradient), blocks[0] * block, blocks[1] * block, channels)
    pixels = pixels[:, : size[0], : size[1]]
    return pixels.permute(0, 3, 1, 2)


def _spread(weight: Tensor, stride: int, padding: int, block: int) -> tuple[Tensor, int]:
    """Return the weight (L,O,K,K) of that convolution, L block^2 C and zeros up to LANES, and its first offset."""
    outputs, channels, kernel = weight.shape[:3]
    offsets = _offsets(kernel, stride, padding, block)
    rows = F.pad(weight.detach().permute(1, 2, 3, 0).reshape(-1, outputs), (0, 0, 0, 1))  # (C k k + 1, O), the last 0
    spread = rows[_sources(channels, kernel, stride, padding, block)]  # (L,K,K,O)
    return spread.permute(0, 3, 1, 2), offsets[0]


@lru_cache
def _sources(channels: int, kernel: int, stride: int, padding: int, block: int) -> Tensor:
    """Return the index (L,K,K) into the weight's flat (C,k,k) for each entry of the spread weight; its end for a 0."""
    offset = torch.tensor(_offsets(kernel, stride, padding, block), device="cpu")
    tap = torch.arange(block, device="cpu")[:, None] + padding - stride * offset  # (block,K)
    known = (tap >= 0) & (tap < kernel)
    y, x = tap[:, None, :, None], tap[None, :, None, :]  # (block,block,K,K): the pixel's position in its block first
    entry = (
        torch.arange(channels, device="cpu")[:, None, None] * kernel**2 + (kernel * y + x)[:, :, None]
    )  # (block,block,C,K,K)
    none = channels * kernel**2
    entry = torch.where((known[:, None, :, None] & known[None, :, None, :])[:, :, None], entry, none)
    entry = entry.flatten(0, 2)
    return F.pad(entry, (0, 0, 0, 0, 0, -len(entry) % LANES), value=none)


def _offsets(kernel: int, stride: int, padding: int, block: int) -> range:
    """Return the outputs that depend on the pixels of a block, counted from the block's first."""
    return range(math.ceil((padding - kernel + 1) / stride), (block - 1 + padding) // stride + 1)
