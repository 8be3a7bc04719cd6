"""Normalisation layers whose second derivative is one closed form instead of a chain of elementwise passes.

A layer maps x to w x^ + b, x^ = (x - mean) r, r = (var + eps)^(-1/2), with the mean over the set of values that are
normalised together. With u = w g, g the output's gradient, the input's gradient is the projection
P(u) = r (u - mean(u) - x^ mean(u x^)). For a cotangent v of that gradient, with p = mean(u v), a = mean(v x^) and
b = mean(u x^):

    to u:  P(v)
    to x:  -r^2 (x^ (p - mean(u) mean(v) - 3 a b) + b (v - mean(v)) + a (u - mean(u)))

P is linear and symmetric, so that its kernel, the layer's own backward, serves again.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class BatchNorm(Function):
    """``F.batch_norm`` in training mode over inputs (B,C,...); moves the running statistics as that does."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
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
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
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
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        gradient: Tensor,
        inputs: Tensor,
        weight: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        eps: float,
    ) -> Tensor:
        to_inputs, with_output, total = _batch_norm_backward(gradient, inputs, weight, mean, scale, eps)
        # sums over x^ g and g
        ctx.save_for_backward(gradient, inputs, weight, mean, scale, with_output, total)
        ctx.eps = eps
        return to_inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        gradient, inputs, weight, mean, scale, with_output, total = ctx.saved_tensors
        count = inputs.numel() // inputs.shape[1]
        dims = [0, *range(2, inputs.ndim)]
        to_gradient, along, sum_v = _batch_norm_backward(cotangent, inputs, weight, mean, scale, ctx.eps)
        w = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
        product = (cotangent * gradient).sum(dims, dtype=mean.dtype) / count  # mean(v g); u = w g
        g_mean, v_mean, a, b = total / count, sum_v / count, along / count, with_output / count
        inner = product - g_mean * v_mean
        to_weight = count * scale * (inner - a * b) if weight is not None and ctx.needs_input_grad[2] else None
        # to x = A x + B v + C g + D, with x^ = (x - mean) r
        factor = -w * scale.square()
        of_x = factor * scale * (inner - 3 * a * b)
        of_v, of_g = factor * b, factor * a
        constant = -of_x * mean - of_v * v_mean - of_g * g_mean
        shape = [1, -1] + [1] * (inputs.ndim - 2)
        to_inputs = torch.addcmul(_as(constant, inputs, shape), inputs, _as(of_x, inputs, shape))
        to_inputs.addcmul_(cotangent, _as(of_v, inputs, shape)).addcmul_(gradient, _as(of_g, inputs, shape))
        return to_gradient, to_inputs, to_weight, None, None, None


class LayerNorm(Function):
    """``F.layer_norm`` over the last dimensions."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        inputs: Tensor,
        shape: tuple[int, ...],
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        outputs, mean, scale = torch.native_layer_norm(inputs, shape, weight, bias, eps)
        ctx.save_for_backward(inputs, weight, bias, mean, scale)
        ctx.shape = shape
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        inputs, weight, bias, mean, scale = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            scaled = gradient if weight is None else gradient * weight
            return LayerNormProjection.apply(scaled, inputs, mean, scale, ctx.shape), *(None,) * 4
        needs = ctx.needs_input_grad
        to_inputs, to_weight, to_bias = torch.ops.aten.native_layer_norm_backward(
            gradient.contiguous(), inputs, ctx.shape, mean, scale, weight, bias, [needs[0], needs[2], needs[3]]
        )
        return to_inputs, None, to_weight, to_bias, None


class LayerNormProjection(Function):
    """P(u) of this module's formula, over the last dimensions."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        scaled: Tensor,
        inputs: Tensor,
        mean: Tensor,
        scale: Tensor,
        shape: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(scaled, inputs, mean, scale)
        ctx.shape = shape
        return _project(scaled, inputs, mean, scale, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        scaled, inputs, mean, scale = ctx.saved_tensors
        to_scaled = _project(cotangent, inputs, mean, scale, ctx.shape)
        rows = mean.numel()
        u, v, x = (tensor.reshape(rows, -1).to(mean.dtype) for tensor in (scaled, cotangent, inputs))
        centre, r = mean.reshape(rows, 1), scale.reshape(rows, 1)
        u_mean, v_mean = u.mean(1, keepdim=True), v.mean(1, keepdim=True)
        count = u.shape[1]

        def along(values: Tensor, mean_value: Tensor) -> Tensor:
            """Return mean(values x^) of each row."""
            found: Tensor = r * (torch.linalg.vecdot(values, x)[:, None] / count - mean_value * centre)
            return found

        a, b = along(v, v_mean), along(u, u_mean)
        inner = torch.linalg.vecdot(u, v)[:, None] / count - u_mean * v_mean
        factor = -r.square()
        of_x, of_v, of_u = factor * r * (inner - 3 * a * b), factor * b, factor * a
        constant = -of_x * centre - of_v * v_mean - of_u * u_mean
        to_inputs = torch.addcmul(constant, x, of_x).addcmul_(v, of_v).addcmul_(u, of_u)
        return to_scaled, to_inputs.reshape(inputs.shape).to(inputs.dtype), None, None, None


def _as(values: Tensor, like: Tensor, shape: list[int]) -> Tensor:
    """Shape values (C,) to broadcast over ``like``, in its type."""
    return values.reshape(shape).to(like.dtype)


def _batch_norm_backward(
    gradient: Tensor, inputs: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return w P(gradient), sum(gradient x^) and sum(gradient), the last two (C,)."""
    return torch.ops.aten.native_batch_norm_backward(  # type: ignore[no-any-return]
        gradient, inputs, weight, None, None, mean, scale, True, eps, [True, True, True]
    )


def _project(values: Tensor, inputs: Tensor, mean: Tensor, scale: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return P(values)."""
    found: Tensor = torch.ops.aten.native_layer_norm_backward(
        values.contiguous(), inputs, shape, mean, scale, None, None, [True, False, False]
    )[0]
    return found
