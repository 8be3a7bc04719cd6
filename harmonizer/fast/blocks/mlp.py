"""Two linear maps around a GELU, as one function with both derivatives, alone or as a residual branch.

In autograd such a part has some ten nodes, and each derivative adds more; with few tokens, calling them takes most of
the time. As one function, the activation's derivative is computed once instead of three times, where that costs more
than keeping it, and a weight's two gradients are summed inside the matrix product.

:class:`Mlp` has further outputs, aliases of the hidden values, the weights and the inputs. Their only purpose is to
carry the gradients that :class:`MlpGradient` computes for them into the backward pass of :class:`Mlp`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.fast.activation import GELU, gelu_second_derivative
from harmonizer.fast.blocks.prefix import BatchPrefix, prefix_of
from harmonizer.fast.blocks.residual import (
    Norm,
    differentiate,
    differentiate_twice,
    enter,
    flat,
    project,
)
from harmonizer.fast.weight_gradient import frozen, summed


class Mlp(Function):
    """Map x (B,...,C) to m(x) = ``F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)``, with w1 (H,C) and w2 (C',H).

    With an ``eps``, to x + m(layer norm(x)), where the norm has weight w and bias b (C,). Callers use the first output
    only.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w1: Tensor,
        b1: Tensor | None,
        w2: Tensor,
        b2: Tensor | None,
        w: Tensor | None = None,
        b: Tensor | None = None,
        eps: float | None = None,
    ) -> tuple[Tensor, ...]:
        inputs, mean, scale = enter(x, w, b, eps)
        hidden = F.linear(flat(inputs), w1, b1)
        active = F.gelu(hidden)
        outputs = F.linear(active, w2, b2).view(*x.shape[:-1], len(w2))
        ctx.prefix = prefix_of(x)
        handles = ctx.prefix.first(hidden), w1.detach(), w2.detach(), ctx.prefix.first(x.detach())
        ctx.mark_non_differentiable(*frozen(handles[1:], (w1, w2, x)))
        ctx.save_for_backward(x, w, mean, scale, inputs, hidden, active, *handles)
        ctx.set_materialize_grads(False)
        ctx.eps = eps
        ctx.derivative = None
        ctx.keeps_derivative = False
        return outputs if eps is None else outputs.add_(x), *handles

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, w, mean, scale, inputs, hidden, active, first_hidden, w1, w2, first_x = ctx.saved_tensors
        g, grad_grad_hidden, grad_grad_w1, grad_grad_w2, grad_grad_x = gradients
        g = x.new_zeros(*x.shape[:-1], len(w2)) if g is None else g
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            if x.device.type == "cpu":  # elsewhere computing the derivative is as fast as reading it
                ctx.derivative = _derivative(first_hidden.detach())
                ctx.keeps_derivative = True
            norm = first_x, w, mean, scale, ctx.eps
            return MlpGradient.apply(g, first_hidden, ctx.derivative, w1, w2, ctx.prefix, *norm), *(None,) * 7
        derivative, ctx.derivative = ctx.derivative, None
        if derivative is None and ctx.keeps_derivative:  # a second pass over a retained graph: repeat the same digits
            derivative = _derivative(first_hidden)
        rows = flat(g)
        grad_hidden = rows @ w2
        if derivative is None or len(derivative) < len(hidden):
            grad_hidden = GELU.gradient(grad_hidden, hidden)
            if grad_grad_hidden is not None:
                ctx.prefix.first(grad_hidden).add_(grad_grad_hidden)
        elif grad_grad_hidden is None:
            grad_hidden.mul_(derivative)
        else:
            torch.addcmul(grad_grad_hidden, grad_hidden, derivative, out=grad_hidden)
        needs = ctx.needs_input_grad
        grad_inputs = (grad_hidden @ w1).view(inputs.shape)
        grad_x, grad_w, grad_b = differentiate(grad_inputs, g, Norm(x, w, mean, scale, ctx.eps), needs[5:7])
        if grad_grad_x is not None:
            ctx.prefix.first(grad_x).add_(grad_grad_x)
        return (
            grad_x,
            summed(grad_grad_w1, grad_hidden, flat(inputs)) if needs[1] else None,
            grad_hidden.sum(0) if needs[2] else None,
            summed(grad_grad_w2, rows, active) if needs[3] else None,
            rows.sum(0) if needs[4] else None,
            grad_w,
            grad_b,
            None,
        )


class MlpGradient(Function):
    """The gradient of x from the output's g (B,...,C'); ``norm`` are the fields of a Norm, x of the first samples."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        hidden: Tensor,
        derivative: Tensor | None,
        w1: Tensor,
        w2: Tensor,
        prefix: BatchPrefix,
        *norm: Any,
    ) -> Tensor:
        g = prefix.first(g)
        rows = flat(g)
        grad_active = rows @ w2
        grad_inputs = (_times_derivative(grad_active, hidden, derivative) @ w1).view(*g.shape[:-1], w1.shape[1])
        grad_x, kept = project(grad_inputs, g, Norm(*norm), prefix)
        ctx.save_for_backward(rows, hidden, derivative, w1, w2, grad_active, *kept)
        ctx.eps = Norm(*norm).eps
        ctx.prefix = prefix
        ctx.shape = g.shape
        return prefix.padded(grad_x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, derivative, w1, w2, grad_active, *kept = ctx.saved_tensors
        needs = ctx.needs_input_grad
        v = ctx.prefix.first(v)
        grad_grad_inputs, grad_grad_x, grad_w = differentiate_twice(v, kept, ctx.eps)
        grad_grad_inputs = flat(grad_grad_inputs)
        grad_grad_hidden = grad_grad_inputs @ w1.T  # cotangent of the hidden values' gradient
        grad_w1 = _times_derivative(grad_active, hidden, derivative).T @ grad_grad_inputs if needs[3] else None
        grad_hidden = gelu_second_derivative(hidden).mul_(grad_active).mul_(grad_grad_hidden)
        grad_grad_active = _times_derivative(grad_grad_hidden, hidden, derivative)
        grad_w2 = rows.T @ grad_grad_active if needs[4] else None
        grad_grad_g = (grad_grad_active @ w2.T).view(ctx.shape)
        grad_grad_g = grad_grad_g if ctx.eps is None else grad_grad_g.add_(v)
        handles = grad_hidden, None, grad_w1, grad_w2, None, grad_grad_x
        return ctx.prefix.padded(grad_grad_g), *handles, grad_w, *(None,) * 3


def _derivative(hidden: Tensor) -> Tensor:
    """Return the derivative of the activation."""
    return GELU.gradient(torch.ones_like(hidden), hidden)


def _times_derivative(gradient: Tensor, hidden: Tensor, derivative: Tensor | None) -> Tensor:
    """Return the gradient of the hidden values from that of the activation's outputs."""
    return GELU.gradient(gradient, hidden) if derivative is None else gradient * derivative
