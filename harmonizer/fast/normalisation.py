"""Normalisation layers whose second derivative is one closed form instead of a chain of elementwise passes.

A layer maps x to w x^ + b, x^ = (x - mean) r, r = (var + eps)^(-1/2), with the mean over the set of values that are
normalised together. With u = w g, where g is the output's gradient, the input's gradient is the projection
P(u) = r (u - mean(u) - x^ mean(u x^)). For a cotangent v of that gradient, with p = mean(u v), a = mean(v x^) and
b = mean(u x^):

    to u:  P(v)
    to x:  -r^2 (x^ (p - mean(u) mean(v) - 3 a b) + b (v - mean(v)) + a (u - mean(u)))

P is linear and symmetric, so the layer's own backward kernel computes both. With q = P(u) and s = P(v) the second is
also

    to x:  -x^ (mean(q s) + a b eps r^4) - r (b s + a q)
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.fast.blocks.prefix import BatchPrefix, prefix_of


class BatchNorm(Function):
    """``F.batch_norm`` in training mode over inputs (B,C,...), with its update of the running statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        outputs, mean, scale = torch.native_batch_norm(
            inputs, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(inputs, weight, mean, scale)
        ctx.eps = eps
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, scale = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            return BatchNormInputGradient.apply(gradient, inputs, weight, mean, scale, ctx.eps), *(None,) * 6
        found = _batch_norm_backward(gradient, inputs, weight, mean, scale, ctx.eps)
        wanted = [value if needed else None for value, needed in zip(found, ctx.needs_input_grad, strict=False)]
        return *wanted, *(None,) * 4


class BatchNormInputGradient(Function):
    """The gradient of a batch normalisation's input."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, inputs: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, eps: float
    ) -> Tensor:
        grad_inputs, with_output, total = _batch_norm_backward(gradient, inputs, weight, mean, scale, eps)
        # sums over x^ g and g
        ctx.save_for_backward(gradient, inputs, weight, mean, scale, with_output, total)
        ctx.eps = eps
        return grad_inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradient, inputs, weight, mean, scale, with_output, total = ctx.saved_tensors
        count = inputs.numel() // inputs.shape[1]
        dims = [0, *range(2, inputs.ndim)]
        grad_gradient, along, sum_v = _batch_norm_backward(cotangent, inputs, weight, mean, scale, ctx.eps)
        w = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
        product = (cotangent * gradient).sum(dims, dtype=mean.dtype) / count  # mean(v g); u = w g
        g_mean, v_mean, a, b = total / count, sum_v / count, along / count, with_output / count
        inner = product - g_mean * v_mean
        grad_weight = count * scale * (inner - a * b) if weight is not None and ctx.needs_input_grad[2] else None
        # to x = A x + B v + C g + D, with x^ = (x - mean) r
        factor = -w * scale.square()
        x_factor = factor * scale * (inner - 3 * a * b)
        v_factor, g_factor = factor * b, factor * a
        constant = -x_factor * mean - v_factor * v_mean - g_factor * g_mean
        shape = [1, -1] + [1] * (inputs.ndim - 2)
        grad_inputs = torch.addcmul(_as(constant, inputs, shape), inputs, _as(x_factor, inputs, shape))
        grad_inputs.addcmul_(cotangent, _as(v_factor, inputs, shape)).addcmul_(gradient, _as(g_factor, inputs, shape))
        return grad_gradient, grad_inputs, grad_weight, None, None, None


class LayerNorm(Function):
    """``F.layer_norm`` over the last dimensions."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        outputs, mean, scale = torch.native_layer_norm(inputs, shape, weight, bias, eps)
        ctx.save_for_backward(inputs, weight, bias, mean, scale)
        ctx.prefix = prefix_of(inputs)
        ctx.shape = shape
        ctx.eps = eps
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, bias, mean, scale = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            rest = mean, scale, ctx.shape, ctx.eps, ctx.prefix
            return LayerNormInputGradient.apply(gradient, inputs, weight, *rest), *(None,) * 4
        needs = ctx.needs_input_grad
        grad_inputs, grad_weight, to_bias = torch.ops.aten.native_layer_norm_backward(
            gradient.contiguous(), inputs, ctx.shape, mean, scale, weight, bias, [needs[0], needs[2], needs[3]]
        )
        return grad_inputs, None, grad_weight, to_bias, None


class LayerNormInputGradient(Function):
    """The gradient of a layer normalisation's input."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        inputs: Tensor,
        weight: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        shape: tuple[int, ...],
        eps: float,
        prefix: BatchPrefix,
    ) -> Tensor:
        gradient, inputs, mean, scale = map(prefix.first, (gradient, inputs, mean, scale))
        found = project(gradient, inputs, weight, mean, scale, shape)
        ctx.save_for_backward(gradient, inputs, weight, mean, scale, found)
        ctx.shape = shape
        ctx.eps = eps
        ctx.prefix = prefix
        return prefix.padded(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        cotangent = ctx.prefix.first(cotangent)
        grad_gradient, grad_inputs, grad_weight = second_gradients(ctx.saved_tensors, cotangent, ctx.shape, ctx.eps)
        return ctx.prefix.padded(grad_gradient), ctx.prefix.padded(grad_inputs), grad_weight, *(None,) * 5


def second_gradients(
    kept: Sequence[Any], cotangent: Tensor, shape: Sequence[int], eps: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the cotangents of the outputs' gradient, of x and of w, given that of a layer norm's input gradient.

    ``kept`` are the outputs' gradient, x, w, the mean and r, and the input gradient, P(w gradient).
    """
    gradient, inputs, weight, mean, scale, found = kept
    grad_u = project(cotangent, inputs, None, mean, scale, shape)
    count = math.prod(shape)
    r = scale.reshape(-1, 1)
    x, g, v, q, s = (t.reshape(-1, count) for t in (inputs, gradient, cotangent, found, grad_u))
    if x.dtype != r.dtype:
        x, g, v, q, s = (t.to(r.dtype) for t in (x, g, v, q, s))
    flat = None if weight is None else weight.reshape(count).to(r.dtype)
    x = torch.sub(x, mean.reshape(-1, 1)).mul_(r)  # x^
    u = g * x if flat is None else (g * flat).mul_(x)
    a, b, inner = (v * x).sum(1, True), u.sum(1, True), (q * s).sum(1, True)  # sums, not means
    share = r * (-1 / count)
    a.mul_(share)
    b.mul_(share)
    inner.mul_(-1 / count).addcmul_(a * b, r.square(), value=-eps)
    grad_inputs = x.mul_(inner).addcmul_(s, b).addcmul_(q, a).reshape(inputs.shape).to(inputs.dtype)
    grad_weight = None if weight is None else (g * s).sum(0).reshape(weight.shape).to(weight.dtype)
    return grad_u if weight is None else grad_u * weight, grad_inputs, grad_weight


def _as(values: Tensor, like: Tensor, shape: list[int]) -> Tensor:
    """Return values (C,) in a shape that broadcasts over ``like``, in its dtype."""
    return values.reshape(shape).to(like.dtype)


def _batch_norm_backward(
    gradient: Tensor, inputs: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return w P(gradient), sum(gradient x^) and sum(gradient), the last two (C,)."""
    return torch.ops.aten.native_batch_norm_backward(
        gradient, inputs, weight, None, None, mean, scale, True, eps, [True, True, True]
    )


def project(
    values: Tensor, inputs: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, shape: Sequence[int]
) -> Tensor:
    """Return P(w values)."""
    found: Tensor = torch.ops.aten.native_layer_norm_backward(
        values.contiguous(), inputs, shape, mean, scale, weight, None, [True, False, False]
    )[0]
    return found
