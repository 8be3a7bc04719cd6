"""Activations whose second derivative is a closed form, or zero.

torch differentiates SiLU twice through a dozen elementwise passes, whose results it keeps, and adds zeros to the
gradient of every ReLU's input.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

aten = torch.ops.aten
DENSITY_SCALE = 2 / (math.e * math.sqrt(2 * math.pi))  # times exp(1 - x^2 / 2): twice the normal density


class Kind(NamedTuple):
    """An elementwise function y = f(x)."""

    value: Callable[..., Tensor]
    """y; accepts ``inplace`` where torch has an in-place form."""
    gradient: Callable[[Tensor, Tensor], Tensor]
    """g f', from g and x; also from g and y where f is piecewise linear."""
    second_derivative: Callable[[Tensor], Tensor] | None
    """f'' from x; None where f is piecewise linear."""
    keeps_outputs: bool = False
    """Save y for the backward pass instead of x, as torch does for some; in place always."""


def activate(inputs: Tensor, kind: Kind, *, inplace: bool) -> Tensor:
    """Return an activation's outputs; ``inplace`` writes them to ``inputs``, as torch does."""
    if inplace and kind.second_derivative is not None:  # it needs the inputs: torch keeps a copy there, too
        return Activation.apply(inputs.clone(), inputs, kind)
    return Activation.apply(inputs, inputs if inplace else None, kind)


class Activation(Function):
    """One of the activations below; ``held``, where given, holds the values of the inputs, and is overwritten.

    Only the inputs get a gradient: for ``held``, torch would add zeros to the gradient of its former value.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, held: Tensor | None, kind: Kind) -> Tensor:
        if held is None:
            outputs = kind.value(inputs)
        else:
            ctx.mark_dirty(held)
            outputs = kind.value(held, inplace=True)
        overwritten = held is not None and kind.second_derivative is None
        ctx.save_for_backward(outputs if overwritten or kind.keeps_outputs else inputs)
        ctx.kind = kind
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (values,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            values = values.detach() if ctx.kind.second_derivative is None else values
            return ActivationGradient.apply(gradients[0], values, ctx.kind), None, None
        return ctx.kind.gradient(gradients[0], values), None, None


class ActivationGradient(Function):
    """The gradient of an activation's input."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, values: Tensor, kind: Kind) -> Tensor:
        ctx.save_for_backward(values, None if kind.second_derivative is None else gradient)
        ctx.kind = kind
        return kind.gradient(gradient, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor | None, None]:
        values, gradient = ctx.saved_tensors
        grad_values = None
        if ctx.kind.second_derivative is not None and ctx.needs_input_grad[1]:
            grad_values = ctx.kind.second_derivative(values).mul_(gradient).mul_(cotangent)
        return ctx.kind.gradient(cotangent, values), grad_values, None


def gelu_second_derivative(x: Tensor) -> Tensor:
    """Return phi(x) (2 - x^2), phi the normal density; f' is Phi(x) + x phi(x)."""
    half = torch.addcmul(x.new_ones(()), x, x, value=-0.5)  # (2 - x^2) / 2; its exponential is phi times a constant
    return half.exp().mul_(half).mul_(DENSITY_SCALE)


def _silu_second_derivative(x: Tensor) -> Tensor:
    """Return s (1 - s) (2 + x (1 - 2 s)), s the sigmoid of x; f' is s + x s (1 - s)."""
    s = torch.sigmoid(x)
    factor = torch.addcmul(x.new_tensor(2.0), x, torch.rsub(s, 1, alpha=2))
    second_derivative: Tensor = aten.sigmoid_backward(factor, s)
    return second_derivative


def _hardswish_second_derivative(x: Tensor) -> Tensor:
    """Return 1/3 between -3 and 3; f' is (2 x + 3) / 6 there."""
    third: Tensor = aten.hardtanh_backward(torch.full_like(x, 1 / 3), x, -3.0, 3.0)
    return third


GELU = Kind(F.gelu, aten.gelu_backward, gelu_second_derivative)
SILU = Kind(F.silu, aten.silu_backward, _silu_second_derivative)
HARDSWISH = Kind(F.hardswish, aten.hardswish_backward, _hardswish_second_derivative)
RELU = Kind(F.relu, lambda gradient, y: aten.threshold_backward(gradient, y, 0), None, keeps_outputs=True)


@cache
def hardtanh(low: float, high: float) -> Kind:
    """Return the activation that clips values to [low,high]."""
    value = partial(F.hardtanh, min_val=low, max_val=high)
    return Kind(value, lambda gradient, y: aten.hardtanh_backward(gradient, y, low, high), None)


@cache
def leaky_relu(slope: float) -> Kind:
    """Return the leaky ReLU with a slope above 0."""
    value = partial(F.leaky_relu, negative_slope=slope)
    return Kind(value, lambda gradient, y: aten.leaky_relu_backward(gradient, y, slope, True), None)
