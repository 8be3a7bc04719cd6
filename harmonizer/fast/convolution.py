"""Two-dimensional convolution whose second derivative runs on the kernels of the first."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.fast.cpu.stem_gradient import image_gradient, is_large, is_supported
from harmonizer.fast.mode import Geometry

Pair = tuple[int, int]


class Convolution(Function):
    """``torch.conv2d``, whose second derivative in torch takes a detour and a loop over groups.

    The gradient of the input is linear in the output's gradient and in the weight. Its derivatives with respect to them
    are the forward pass and the ordinary gradient of the weight.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.geometry = geometry
        return torch.conv2d(inputs, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            return InputGradient.apply(gradient, weight, inputs, ctx.geometry), None, None, None
        return *_backward(gradient, inputs, weight, ctx.geometry, (needs[0], needs[1], needs[2])), None


class InputGradient(Function):
    """The gradient of a convolution's input, from its output's gradient (B,O,h,w) and the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, inputs: Tensor, geometry: Any) -> Tensor | None:
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = geometry
        return _backward(gradient, inputs, weight, geometry, (True, False, False))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, weight = ctx.saved_tensors
        grad_gradient = torch.conv2d(cotangent, weight, None, *ctx.geometry) if ctx.needs_input_grad[0] else None
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = _backward(gradient, cotangent, weight, ctx.geometry, (False, True, False))[1]
        return grad_gradient, grad_weight, None, None


def takes_patches(inputs: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> bool:
    """Return whether a convolution's patches tile the input without overlap, as a transformer's patch embedding."""
    kernel = weight.shape[2:]
    whole = all(size % side == 0 for size, side in zip(inputs.shape[2:], kernel, strict=True))
    return whole and kernel == stride != (1, 1) and padding == (0, 0) and dilation == (1, 1) and groups == 1


def patches_convolution(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute such a convolution as a matrix product, whose derivatives of any order are matrix products.

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


def _backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    geometry: Geometry,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, weight and bias; None for those that are not ``wanted``."""
    stride, padding, dilation, groups = geometry
    images_alone = wanted == (True, False, False)
    if images_alone and is_supported(gradient, weight, *geometry) and is_large(weight, stride, padding):
        return image_gradient(gradient, weight, inputs.shape[2:], stride[0], padding[0]), None, None
    return torch.ops.aten.convolution_backward(
        gradient, inputs, weight, [weight.shape[0]], stride, padding, dilation, False, [0, 0], groups, list(wanted)
    )
