"""Activations whose second derivative is a closed form."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Gelu(Function):
    """``F.gelu`` without approximation: x Phi(x), with the slope Phi(x) + x phi(x) and the bend phi(x) (2 - x^2)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:  # noqa: ANN401, D102
        ctx.save_for_backward(inputs)
        return torch.nn.functional.gelu(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor | None:  # noqa: ANN401, D102
        (inputs,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return GeluGradient.apply(gradients[0], inputs)  # type: ignore[no-any-return]
        return torch.ops.aten.gelu_backward(gradients[0], inputs)  # type: ignore[no-any-return]


class GeluGradient(Function):
    """The gradient of a GELU's input."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, inputs: Tensor) -> Tensor:  # noqa: ANN401, D102
        ctx.save_for_backward(gradient, inputs)
        return torch.ops.aten.gelu_backward(gradient, inputs)  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401, D102
        gradient, inputs = ctx.saved_tensors
        square = inputs * inputs
        bend = (square * -0.5).exp_().mul_(square.sub_(2)).mul_(-1 / math.sqrt(2 * math.pi))
        return torch.ops.aten.gelu_backward(cotangent, inputs), bend.mul_(gradient).mul_(cotangent)
