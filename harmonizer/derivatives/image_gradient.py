"""The gradient of the image through a network's first convolution, on a CPU."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]

FEW = 4  # input channels of a convolution that looks at an image
LANES = 16  # kernels compute this many output channels at once, wanted or not


def suits(tensor: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """Tell whether :func:`image_gradient` is faster for such a convolution of ``tensor``, or for such a gradient.

    Only where its own kernel has more than three taps: with fewer, torch treats a small image in another way alone than
    in company, and the gradient of an image would depend on its batch.
    """
    (_, channels, *kernel), step = weight.shape, stride[0]
    return (
        tensor.device.type == "cpu"
        and channels <= FEW
        and kernel[0] == kernel[1] > step == stride[1] > 1
        and padding[0] == padding[1]
        and len(_offsets(kernel[0], step, padding[0], step)) > 3
        and dilation == (1, 1)
        and groups == 1
    )


def image_gradient(gradient: Tensor, weight: Tensor, size: Sequence[int], stride: int, padding: int) -> Tensor:
    """Return the gradient of a convolution's few input channels, from that of its output.

    A transposed convolution with three output channels leaves most of a vector register idle. Here the pixels of a
    block of ``b`` x ``b``, b the stride or 2, are the channels of one convolution of the output's gradient, and are
    then put in their places.

    Args:
        gradient: Of the output, (B,O,h,w).
        weight: (O,C,k,k), C at most four.
        size: Height and width of the input, H and W.
        stride: Of the convolution.
        padding: Of the convolution.

    Returns:
        (B,C,H,W), channels last.
    """
    block = max(stride, 2)
    spread, first = _spread(weight, stride, padding, block)
    step = block // stride  # from a block to the next, in outputs
    blocks = [math.ceil(length / block) for length in size]
    reach = [step * (n - 1) + first + spread.shape[-1] for n in blocks]  # outputs that the last block looks at, plus 1
    margin = max(-first, *(end - length for end, length in zip(reach, gradient.shape[2:], strict=True)), 0)
    margin += -(margin + first) % step
    skip = (margin + first) // step
    values = F.conv2d(gradient, spread, None, step, margin).permute(0, 2, 3, 1)
    channels = weight.shape[1]
    values = values[:, skip : skip + blocks[0], skip : skip + blocks[1], : block * block * channels]
    rows = values.reshape(*values.shape[:3], block, block * channels).transpose(2, 3)  # (B, h, block's rows, w, rest)
    pixels = rows.reshape(len(gradient), blocks[0] * block, blocks[1] * block, channels)
    pixels = pixels[:, : size[0], : size[1]]
    return pixels.permute(0, 3, 1, 2)


def _spread(weight: Tensor, stride: int, padding: int, block: int) -> tuple[Tensor, int]:
    """Return the weight (block^2 C and zeros up to LANES, O, K, K) of that convolution, and its first offset."""
    outputs, channels, kernel = weight.shape[:3]
    offsets = _offsets(kernel, stride, padding, block)
    place, offset = torch.arange(block)[:, None], torch.tensor(offsets)
    tap = place + padding - stride * offset  # (block,K)
    known = (tap >= 0) & (tap < kernel)
    tap = tap.clamp(0, kernel - 1)
    taps = weight.detach()[:, :, tap][..., tap] * (known[:, :, None, None] & known)  # (O,C,block,K,block,K)
    size = len(offsets)
    spread = taps.permute(2, 4, 1, 0, 3, 5).reshape(block * block * channels, outputs, size, size)
    padded = F.pad(spread, (0, 0, 0, 0, 0, 0, 0, -len(spread) % LANES))
    return padded.contiguous(memory_format=torch.channels_last), offsets[0]


def _offsets(kernel: int, stride: int, padding: int, block: int) -> range:
    """Return which outputs the pixels of a block reach, counted from the block's first."""
    return range(math.ceil((padding - kernel + 1) / stride), (block - 1 + padding) // stride + 1)
