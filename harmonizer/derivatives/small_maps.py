"""Convolutions of maps of few pixels, on a CPU: a matrix product for each tap of the kernel.

The last layers of a network that sees small images have many channels and hardly any pixels. There most taps of a
kernel fall beside the map, and torch's kernels, made for rows of pixels, are left idle; benchmarks/README.md has the
numbers. A tap with weight (O,I) maps the pixels that it meets to the outputs that it reaches.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

Pair = tuple[int, int]

MOST_PIXELS = 9  # of the output
MOST_PIXELS_CHANNELS_LAST = 16  # there torch is slower
LEAST_CHANNELS = 128


class Span(NamedTuple):
    """Along one side of the map, what a tap connects."""

    tap: int
    outputs: slice
    inputs: slice


def suits(inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """Tell whether such a convolution of inputs (B,I,H,W) with a weight (O,I,k,l) is faster as products."""
    if inputs.device.type != "cpu" or groups != 1 or dilation != (1, 1) or not len(inputs):
        return False
    if inputs.dtype != weight.dtype or inputs.dtype not in (torch.float32, torch.float64):
        return False
    sizes = _output_size(inputs.shape[2:], weight.shape[2:], stride, padding)
    if len(inputs) == 1 and math.prod(sizes) > 1:
        return False  # too little work for so many products
    most = MOST_PIXELS if inputs.is_contiguous() else MOST_PIXELS_CHANNELS_LAST
    return min(weight.shape[:2]) >= LEAST_CHANNELS and min(sizes) > 0 and math.prod(sizes) <= most


class TapProducts:
    """One convolution, and its gradients, as products.

    Args:
        weight: (O,I,k,l).
        size: Height and width of the input.
        stride: Of the convolution.
        padding: Zeros on each side.
    """

    def __init__(self, weight: Tensor, size: Pair, stride: Pair, padding: Pair) -> None:
        self.shape = weight.shape
        self.size = size
        self.outputs = _output_size(size, weight.shape[2:], stride, padding)
        sides = zip(size, self.outputs, weight.shape[2:], stride, padding, strict=True)
        self.rows, self.columns = (_spans(*side) for side in sides)
        (top, bottom), (left, right) = (_extent(spans) for spans in (self.rows, self.columns))
        self.first = top, left
        taps = weight.detach()[:, :, top:bottom, left:right].permute(2, 3, 0, 1)
        self.taps = taps if taps.stride(-1) == 1 else taps.contiguous()  # each (O,I)

    def convolve(self, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the output (B,O,h,w), which lies in memory as the inputs (B,I,H,W) do."""
        outputs = _maps(inputs, self.shape[0], self.outputs)
        if bias is not None:
            outputs += bias[:, None, None]
        left, right = outputs.permute(0, 2, 3, 1), inputs.permute(0, 2, 3, 1)
        for row, column, tap in self._connections():
            left[:, row.outputs, column.outputs] += _product(right[:, row.inputs, column.inputs], tap.t())
        return outputs.contiguous() if inputs.is_contiguous() else outputs

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the inputs (B,I,H,W) from that of the output (B,O,h,w)."""
        inputs = _maps(gradient, self.shape[1], self.size)
        left, right = inputs.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        for row, column, tap in self._connections():
            left[:, row.inputs, column.inputs] += _product(right[:, row.outputs, column.outputs], tap)
        return inputs.contiguous() if gradient.is_contiguous() else inputs

    def weight_gradient(self, gradient: Tensor, inputs: Tensor) -> Tensor:
        """Return the gradient of the weight (O,I,k,l) from the output's (B,O,h,w) and the inputs (B,I,H,W)."""
        left, right = gradient.permute(0, 2, 3, 1), inputs.permute(0, 2, 3, 1)
        found = gradient.new_zeros(*self.shape[2:], *self.shape[:2])
        for row, column, _ in self._connections():
            reached = left[:, row.outputs, column.outputs].flatten(0, 2)
            met = right[:, row.inputs, column.inputs].flatten(0, 2)
            torch.mm(reached.t(), met, out=found[row.tap, column.tap])
        return found.permute(2, 3, 0, 1).contiguous()

    def _connections(self) -> list[tuple[Span, Span, Tensor]]:
        return [
            (row, column, self.taps[row.tap - self.first[0], column.tap - self.first[1]])
            for row in self.rows
            for column in self.columns
        ]


def _output_size(size: torch.Size | Pair, kernel: torch.Size, stride: Pair, padding: Pair) -> Pair:
    height, width = (
        (length + 2 * pad - taps) // step + 1
        for length, taps, step, pad in zip(size, kernel, stride, padding, strict=True)
    )
    return height, width


def _spans(size: int, outputs: int, kernel: int, stride: int, padding: int) -> list[Span]:
    """Return what each tap connects along one side, without those that fall beside the map everywhere."""
    found = []
    for tap in range(kernel):
        shift = tap - padding  # of the first output's input
        low, high = max(-(shift // stride), 0), min((size - 1 - shift) // stride, outputs - 1)
        if low <= high:
            first = low * stride + shift
            found.append(Span(tap, slice(low, high + 1), slice(first, first + (high - low) * stride + 1, stride)))
    return found


def _extent(spans: list[Span]) -> Pair:
    """Return the first tap, and the one after the last; nothing where all fall beside the map."""
    return (spans[0].tap, spans[-1].tap + 1) if spans else (0, 0)


def _product(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Multiply vectors (B,h,w,K) by a matrix (K,N)."""
    return torch.mm(pixels.flatten(0, 2), matrix).reshape(*pixels.shape[:3], -1)


def _maps(example: Tensor, channels: int, size: Pair) -> Tensor:
    """Return zeros (B,channels,*size), channels last; a permuted view would not do as the output of a Function."""
    shape = len(example), channels, *size
    empty = torch.empty(shape, dtype=example.dtype, device=example.device, memory_format=torch.channels_last)
    return empty.zero_()
