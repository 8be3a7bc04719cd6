"""Two-dimensional convolution whose second derivative runs on the kernels of the first."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Pair = tuple[int, int]


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
        ctx.save_for_backward(inputs, weight)
        ctx.geometry = (stride, padding, dilation, groups)
        return torch.conv2d(inputs, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        needs = ctx.needs_input_grad
        nothing = (None,) * 4
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            return InputGradient.apply(gradient, weight, inputs, ctx.geometry), None, None, *nothing
        return *_backward(gradient, inputs, weight, ctx.geometry, (needs[0], needs[1], needs[2])), *nothing


class InputGradient(Function):
    """The gradient of a convolution's input, from that of its output (B,O,h,w) and the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, inputs: Tensor, geometry: Any) -> Tensor | None:  # noqa: ANN401, D102
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = geometry
        return _backward(gradient, inputs, weight, geometry, (True, False, False))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        gradient, weight = ctx.saved_tensors
        to_gradient = torch.conv2d(cotangent, weight, None, *ctx.geometry) if ctx.needs_input_grad[0] else None
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = _backward(gradient, cotangent, weight, ctx.geometry, (False, True, False))[1]
        return to_gradient, to_weight, None, None


def _backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    geometry: tuple[Pair, Pair, Pair, int],
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, weight and bias that are wanted."""
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        gradient, inputs, weight, [weight.shape[0]], stride, padding, dilation, False, [0, 0], groups, list(wanted)
    )
