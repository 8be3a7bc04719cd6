"""Two-dimensional convolution whose second derivative runs on the kernels of the first."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.derivatives import image_gradient, small_maps
from harmonizer.derivatives.small_maps import TapProducts

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair, int]  # stride, padding, dilation, groups


class Convolution(Function):
    """``torch.conv2d``; torch's own second derivative takes a detour, and a loop over groups.

    The gradient of the input is linear in the output's gradient and in the weight, and its two derivatives are the
    forward pass and the ordinary gradient of the weight again.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
    ) -> Tensor:
        ctx.geometry = geometry = (stride, padding, dilation, groups)
        ctx.products = products = _products(inputs, weight, bias, geometry)
        taps = None if products is None else products.taps(weight)
        ctx.save_for_backward(inputs, weight, taps)
        return _convolve(inputs, weight, bias, geometry, products, taps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        inputs, weight, taps = ctx.saved_tensors
        (gradient,) = gradients
        needs = ctx.needs_input_grad
        nothing = (None,) * 4
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            found = InputGradient.apply(gradient, weight, inputs, taps, ctx.geometry, ctx.products)
            return found, None, None, *nothing
        wanted = needs[0], needs[1], needs[2]
        return *_backward(gradient, inputs, weight, ctx.geometry, wanted, ctx.products, taps), *nothing


class InputGradient(Function):
    """The gradient of a convolution's input, from that of its output (B,O,h,w) and the weight."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        gradient: Tensor,
        weight: Tensor,
        inputs: Tensor,
        taps: Tensor | None,
        geometry: Geometry,
        products: TapProducts | None,
    ) -> Tensor | None:
        ctx.save_for_backward(gradient, weight, taps)
        ctx.geometry, ctx.products = geometry, products
        return _backward(gradient, inputs, weight, geometry, (True, False, False), products, taps)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        gradient, weight, taps = ctx.saved_tensors
        how = ctx.geometry, ctx.products, taps
        to_gradient = _convolve(cotangent, weight, None, *how) if ctx.needs_input_grad[0] else None
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = _backward(gradient, cotangent, weight, ctx.geometry, (False, True, False), *how[1:])[1]
        return to_gradient, to_weight, None, None, None, None


def takes_patches(inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """Tell whether a convolution looks at patches that neither overlap nor leave gaps, as those of transformers do."""
    kernel = weight.shape[2:]
    whole = all(size % side == 0 for size, side in zip(inputs.shape[2:], kernel, strict=True))
    return whole and kernel == stride != (1, 1) and padding == (0, 0) and dilation == (1, 1) and groups == 1


def patches_convolution(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Write such a convolution as a matrix product, whose derivatives of any order are matrix products.

    Args:
        inputs: (B,C,H,W).
        weight: (O,C,p,q), H and W multiples of p and q.
        bias: (O,).

    Returns:
        (B,O,H/p,W/q).
    """
    (batch, channels, height, width), (p, q) = inputs.shape, weight.shape[2:]
    patches = inputs.reshape(batch, channels, height // p, p, width // q, q)
    rows = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, height // p, width // q, channels * p * q)
    return torch.nn.functional.linear(rows, weight.flatten(1), bias).permute(0, 3, 1, 2)


def _products(inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> TapProducts | None:
    """Return how to write a convolution of few pixels as products; None where torch's own way is better."""
    fits = bias is None or (bias.shape == weight.shape[:1] and bias.dtype == weight.dtype)
    if not fits or not small_maps.suits(inputs, weight, *geometry):
        return None
    return TapProducts(weight.shape, (inputs.shape[2], inputs.shape[3]), *geometry[:2])


def _convolve(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    products: TapProducts | None,
    taps: Tensor | None,
) -> Tensor:
    """Do as ``torch.conv2d``."""
    if products is not None and taps is not None:
        return products.convolve(inputs, taps, bias)
    return torch.conv2d(inputs, weight, bias, *geometry)


def _backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    geometry: Geometry,
    wanted: tuple[bool, bool, bool],
    products: TapProducts | None,
    taps: Tensor | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, weight and bias that are wanted."""
    stride, padding, dilation, groups = geometry
    if products is not None and taps is not None:
        return (
            products.input_gradient(gradient, taps) if wanted[0] else None,
            products.weight_gradient(gradient, inputs) if wanted[1] else None,
            gradient.sum((0, 2, 3)) if wanted[2] else None,
        )
    if wanted == (True, False, False) and image_gradient.suits(gradient, weight, *geometry):
        found = image_gradient.image_gradient(gradient, weight, inputs.shape[2:], stride[0], padding[0])
        return found, None, None
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        gradient, inputs, weight, [weight.shape[0]], stride, padding, dilation, False, [0, 0], groups, list(wanted)
    )
