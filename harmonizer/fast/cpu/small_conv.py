"""Convolutions of maps with few pixels on a CPU: a matrix product for each tap of the kernel.

With small images, the last layers of a network have many channels and few pixels. Most taps of a kernel then fall
outside the map, and torch's kernels, made for rows of pixels, are slow; benchmarks/README.md has the numbers. A tap
with weight (O,I) maps the pixels that it covers to outputs. This needs a copy of a contiguous weight. For few images
the copy takes longer than the products; one product of the whole weight with the windows of all outputs, including
zeros outside the map, is then faster.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.fast.switch import fast
from harmonizer.fast.weight_gradient import frozen, summed

Pair = tuple[int, int]

# Up to this size products are faster, on one thread of an x86-64 CPU with and without AVX-512; see
# `python -m benchmarks.layers`.
MOST_PIXELS, MOST_PIXELS_CHANNELS_LAST = 9, 16  # output pixels
LEAST_CHANNELS = 256
# Number of products with zeros outside the map that take as long as copying one number of the weight to its tap, or of
# the weight's gradient back.
COPY, COPY_BACK = 29, 54


class Span(NamedTuple):
    """The inputs and outputs that a tap connects along one side of the map."""

    tap: int
    outputs: slice
    inputs: slice


def is_supported(inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """Return whether a convolution of inputs (B,I,H,W) with a weight (O,I,k,l) is supported and faster as products.

    False for arguments that do not fit each other: torch raises the error.
    """
    if (
        not fast.enables("small_conv")
        or inputs.device.type != "cpu"
        or groups != 1
        or dilation != (1, 1)
        or not len(inputs)
    ):
        return False
    if weight.ndim != 4 or inputs.shape[1] != weight.shape[1] or min(stride) < 1 or min(padding) < 0:
        return False
    if inputs.dtype != weight.dtype or inputs.dtype not in (torch.float32, torch.float64):
        return False
    sizes = _output_size(inputs.shape[2:], weight.shape[2:], stride, padding)
    if len(inputs) == 1 and math.prod(sizes) > 1:
        return False  # too little work per product
    most = MOST_PIXELS if inputs.is_contiguous() else MOST_PIXELS_CHANNELS_LAST
    return min(weight.shape[:2]) >= LEAST_CHANNELS and min(sizes) > 0 and math.prod(sizes) <= most


def conv_as_matmul(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor | None:
    """Convolve with products, twice differentiable, where :func:`is_supported`; otherwise return None."""
    fits = bias is None or (bias.shape == weight.shape[:1] and bias.dtype == weight.dtype)
    if not fits or not is_supported(inputs, weight, stride, padding, dilation, groups):
        return None
    products = TapProducts(weight.shape, (inputs.shape[2], inputs.shape[3]), stride, padding)
    # In attacks, whose weights are constants, the choice must not depend on the batch size.
    if weight.requires_grad and inputs.is_contiguous() and weight.is_contiguous() and products.copies_much(len(inputs)):
        products = WindowProducts(weight.shape, products.size, stride, padding)
    return TapConvolution.apply(inputs, weight, bias, products)[0]


class TapConvolution(Function):
    """A convolution as products; compare :class:`harmonizer.fast.convolution.Convolution`.

    The second output is the weight again. Through it, the second derivative's part of the weight's gradient arrives
    here, and the other part is added in place: these weights are large, and few images leave little else to do.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, products: "TapProducts"
    ) -> tuple[Tensor, Tensor]:
        taps = products.taps(weight)
        handle = weight.detach()
        ctx.mark_non_differentiable(*frozen((handle,), (weight,)))
        ctx.save_for_backward(inputs, handle, taps)
        ctx.set_materialize_grads(False)
        ctx.products = products
        return products.convolve(inputs, taps, bias), handle

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, weight, taps = ctx.saved_tensors
        gradient, grad_grad_weight = gradients
        if gradient is None:
            return None, grad_grad_weight, None, None
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            return TapInputGradient.apply(gradient, weight, taps, ctx.products), None, None, None
        needs = ctx.needs_input_grad
        return (
            ctx.products.input_gradient(gradient, taps) if needs[0] else None,
            ctx.products.weight_gradient(gradient, inputs, grad_grad_weight) if needs[1] else None,
            gradient.sum((0, 2, 3)) if needs[2] else None,
            None,
        )


class TapInputGradient(Function):
    """The gradient of its input, from its output's gradient (B,O,h,w) and the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, taps: Tensor, products: "TapProducts") -> Tensor:
        ctx.save_for_backward(gradient, taps)
        ctx.products = products
        return products.input_gradient(gradient, taps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, taps = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (
            ctx.products.convolve(cotangent, taps) if needs[0] else None,
            ctx.products.weight_gradient(gradient, cotangent) if needs[1] else None,
            None,
            None,
        )


class TapProducts:
    """One convolution, and its gradients, as products.

    Args:
        shape: Shape of the weight, (O,I,k,l).
        size: Height and width of the input.
        stride: Vertical and horizontal stride.
        padding: Zeros on each side.
    """

    def __init__(self, shape: torch.Size, size: Pair, stride: Pair, padding: Pair) -> None:
        self.shape = shape
        self.size = size
        self.stride = stride
        self.padding = padding
        self.outputs = _output_size(size, shape[2:], stride, padding)
        sides = zip(size, self.outputs, shape[2:], stride, padding, strict=True)
        self.rows, self.columns = (_spans(*side) for side in sides)
        self.extents = _extent(self.rows), _extent(self.columns)
        spans = ([range(span.outputs.start, span.outputs.stop) for span in side] for side in (self.rows, self.columns))
        met = math.prod(sum(map(len, side)) for side in spans)
        # Pairs of an output and a tap outside the map, per image.
        self.missed: int = math.prod(self.outputs) * math.prod(shape[2:]) - met

    def copies_much(self, count: int) -> bool:
        """Return whether the copy of a contiguous weight to its taps takes longer than it saves for so few images."""
        return count * self.missed <= COPY * len(self.rows) * len(self.columns)

    def taps(self, weight: Tensor) -> Tensor:
        """Return the taps (k',l',O,I) that cover some of the map, with contiguous rows; a view where possible."""
        (top, bottom), (left, right) = self.extents
        taps = weight.detach()[:, :, top:bottom, left:right].permute(2, 3, 0, 1)
        return taps if taps.stride(-1) == 1 else taps.contiguous()

    def convolve(self, inputs: Tensor, taps: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the output (B,O,h,w) of inputs (B,I,H,W), contiguous if they are, otherwise channels last."""
        outputs = _maps(inputs, self.shape[0], self.outputs)
        if bias is not None:
            outputs += bias[:, None, None]
        left, right = outputs.permute(0, 2, 3, 1), inputs.permute(0, 2, 3, 1)
        for row, column, tap in self._connections(taps):
            left[:, row.outputs, column.outputs] += _product(right[:, row.inputs, column.inputs], tap.t())
        return outputs.contiguous() if inputs.is_contiguous() else outputs

    def input_gradient(self, gradient: Tensor, taps: Tensor) -> Tensor:
        """Return the gradient of the inputs (B,I,H,W) from that of the output (B,O,h,w)."""
        inputs = _maps(gradient, self.shape[1], self.size)
        left, right = inputs.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        for row, column, tap in self._connections(taps):
            left[:, row.inputs, column.inputs] += _product(right[:, row.outputs, column.outputs], tap)
        return inputs.contiguous() if gradient.is_contiguous() else inputs

    def weight_gradient(self, gradient: Tensor, inputs: Tensor, before: Tensor | None = None) -> Tensor:
        """Return the gradient of the weight (O,I,k,l) from the output's (B,O,h,w) and the inputs (B,I,H,W).

        A gradient ``before`` is added in place.
        """
        if inputs.is_contiguous() and len(inputs) * self.missed <= COPY_BACK * math.prod(self.shape[2:]):
            flat = None if before is None else before.flatten(1)
            return summed(flat, _rows(gradient), self._windows(inputs)).reshape(self.shape)
        left, right = gradient.permute(0, 2, 3, 1), inputs.permute(0, 2, 3, 1)
        channels, kernel = self.shape[:2], self.shape[2:]
        found = gradient.new_zeros(*kernel, *channels)
        for row, column in itertools.product(self.rows, self.columns):
            reached = left[:, row.outputs, column.outputs].flatten(0, 2)
            met = right[:, row.inputs, column.inputs].flatten(0, 2)
            torch.mm(reached.t(), met, out=found[row.tap, column.tap])
        found = found.permute(2, 3, 0, 1)
        return found.contiguous() if before is None else before.add_(found)

    def _windows(self, inputs: Tensor) -> Tensor:
        """Return the window of each output, (B h w,I k l), including zeros outside the map."""
        (top, left), (down, right), (height, width) = self.padding, self.stride, self.shape[2:]
        padded = F.pad(inputs, (left, left, top, top))
        windows = padded.unfold(2, height, down).unfold(3, width, right)  # (B,I,h,w,k,l)
        return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, math.prod(self.shape[1:]))

    def _connections(self, taps: Tensor) -> Iterator[tuple[Span, Span, Tensor]]:
        """Yield the spans that each tap connects, and its weight (O,I)."""
        (top, _), (left, _) = self.extents
        for row, column in itertools.product(self.rows, self.columns):
            yield row, column, taps[row.tap - top, column.tap - left]


class WindowProducts(TapProducts):
    """The same with one product of the whole weight for all taps: for few, contiguous images."""

    def taps(self, weight: Tensor) -> Tensor:
        """Return the weight as a matrix (O,I k l)."""
        return weight.detach().flatten(1)

    def convolve(self, inputs: Tensor, taps: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the output (B,O,h,w) of inputs (B,I,H,W), contiguous."""
        windows = self._windows(inputs)
        pixels = torch.mm(windows, taps.t()) if bias is None else torch.addmm(bias, windows, taps.t())
        maps = pixels.reshape(len(inputs), *self.outputs, -1).permute(0, 3, 1, 2)
        return maps.clone(memory_format=torch.contiguous_format)

    def input_gradient(self, gradient: Tensor, taps: Tensor) -> Tensor:
        """Return the gradient of the inputs (B,I,H,W), contiguous, from that of the output (B,O,h,w)."""
        windows = torch.mm(_rows(gradient), taps).reshape(len(gradient), -1, taps.shape[1])
        return F.fold(windows.mT, self.size, tuple(self.shape[2:]), 1, self.padding, self.stride)


def _rows(maps: Tensor) -> Tensor:
    """Return the pixels (B h w,C) of maps (B,C,h,w)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _output_size(size: torch.Size | Pair, kernel: torch.Size, stride: Pair, padding: Pair) -> Pair:
    height, width = (
        (length + 2 * pad - taps) // step + 1
        for length, taps, step, pad in zip(size, kernel, stride, padding, strict=True)
    )
    return height, width


def _spans(size: int, outputs: int, kernel: int, stride: int, padding: int) -> list[Span]:
    """Return the span of each tap along one side, without taps that are always outside the map."""
    found = []
    for tap in range(kernel):
        shift = tap - padding  # position of the first output's input
        low, high = max(-(shift // stride), 0), min((size - 1 - shift) // stride, outputs - 1)
        if low <= high:
            first = low * stride + shift
            found.append(Span(tap, slice(low, high + 1), slice(first, first + (high - low) * stride + 1, stride)))
    return found


def _extent(spans: list[Span]) -> Pair:
    """Return the first tap and one past the last; (0, 0) without any."""
    return (spans[0].tap, spans[-1].tap + 1) if spans else (0, 0)


def _product(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Multiply vectors (B,h,w,K) by a matrix (K,N)."""
    return torch.mm(pixels.flatten(0, 2), matrix).reshape(*pixels.shape[:3], -1)


def _maps(example: Tensor, channels: int, size: Pair) -> Tensor:
    """Return zeros (B,channels,*size), channels last.

    Not a permuted view of (B,*size,channels): autograd forbids in-place changes to a view that a Function returns.
    """
    shape = len(example), channels, *size
    empty = torch.empty(shape, dtype=example.dtype, device=example.device, memory_format=torch.channels_last)
    return empty.zero_()
