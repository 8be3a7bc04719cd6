"""Two linear maps around a GELU, as one function with both derivatives, alone or as a residual branch.

autograd sees some ten nodes in such a part of a network, and each of its derivatives adds some, so that with few tokens
it takes long only to call them. As one function the activation's slope is computed once and not three times,
where that costs more than to keep it, and a weight's two gradients are added up inside the product.

The second derivative reaches the first function through outputs that are for nothing else, aliases of the hidden
values, the weights and the inputs: what :class:`MlpGradient` finds as their gradients, :class:`Mlp` takes on in its own
backward pass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.fast.activation import GELU, bend_of_gelu
from harmonizer.fast.blocks.prefix import BatchPrefix, prefix_of
from harmonizer.fast.blocks.residual import (
    Norm,
    differentiate,
    differentiate_twice,
    enter,
    flat,
    frozen,
    project,
    summed,
)


class Mlp(Function):
    """Map x (B,...,C) to m(x) = ``F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)``, with w1 (H,C) and w2 (C',H).

    With an ``eps``, to x + m(layer norm(x)), the norm having the weight w and bias b (C,).
    Of the outputs only the first is for use.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
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
        ctx.lead = prefix_of(x)
        handles = ctx.lead.first(hidden), w1.detach(), w2.detach(), ctx.lead.first(x.detach())
        ctx.mark_non_differentiable(*frozen(handles[1:], (w1, w2, x)))
        ctx.save_for_backward(x, w, mean, scale, inputs, hidden, active, *handles)
        ctx.set_materialize_grads(False)
        ctx.eps = eps
        ctx.slope = None
        ctx.keeps_slope = False
        return outputs if eps is None else outputs.add_(x), *handles

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        x, w, mean, scale, inputs, hidden, active, first_hidden, w1, w2, first_x = ctx.saved_tensors
        g, of_hidden, of_w1, of_w2, of_x = gradients
        g = x.new_zeros(*x.shape[:-1], len(w2)) if g is None else g
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            if x.device.type == "cpu":  # elsewhere the slope takes no longer than to read it
                ctx.slope = _slope(first_hidden.detach())
                ctx.keeps_slope = True
            norm = first_x, w, mean, scale, ctx.eps
            return MlpGradient.apply(g, first_hidden, ctx.slope, w1, w2, ctx.lead, *norm), *(None,) * 7
        slope, ctx.slope = ctx.slope, None
        if slope is None and ctx.keeps_slope:  # a graph that was kept: the same digits again
            slope = _slope(first_hidden)
        rows = flat(g)
        to_hidden = rows @ w2
        if slope is None or len(slope) < len(hidden):
            to_hidden = GELU.gradient(to_hidden, hidden)
            if of_hidden is not None:
                ctx.lead.first(to_hidden).add_(of_hidden)
        elif of_hidden is None:
            to_hidden.mul_(slope)
        else:
            torch.addcmul(of_hidden, to_hidden, slope, out=to_hidden)
        needs = ctx.needs_input_grad
        to_inputs = (to_hidden @ w1).view(inputs.shape)
        to_x, to_w, to_b = differentiate(to_inputs, g, Norm(x, w, mean, scale, ctx.eps), needs[5:7])
        if of_x is not None:
            ctx.lead.first(to_x).add_(of_x)
        return (
            to_x,
            summed(of_w1, to_hidden, flat(inputs)) if needs[1] else None,
            to_hidden.sum(0) if needs[2] else None,
            summed(of_w2, rows, active) if needs[3] else None,
            rows.sum(0) if needs[4] else None,
            to_w,
            to_b,
            None,
        )


class MlpGradient(Function):
    """The gradient of x from the output's g (B,...,C')."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        g: Tensor,
        hidden: Tensor,
        slope: Tensor | None,
        w1: Tensor,
        w2: Tensor,
        lead: BatchPrefix,
        *norm: Any,  # noqa: ANN401 - of Norm; its x is that of the first samples
    ) -> Tensor:
        g = lead.first(g)
        rows = flat(g)
        to_active = rows @ w2
        to_inputs = (_times_slope(to_active, hidden, slope) @ w1).view(*g.shape[:-1], w1.shape[1])
        to_x, kept = project(to_inputs, g, Norm(*norm), lead)
        ctx.save_for_backward(rows, hidden, slope, w1, w2, to_active, *kept)
        ctx.eps = Norm(*norm).eps
        ctx.lead = lead
        ctx.shape = g.shape
        return lead.padded(to_x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        rows, hidden, slope, w1, w2, to_active, *kept = ctx.saved_tensors
        needs = ctx.needs_input_grad
        v = ctx.lead.first(v)
        of_inputs, of_x, to_w = differentiate_twice(v, kept, ctx.eps)
        of_inputs = flat(of_inputs)
        of_hidden = of_inputs @ w1.T  # cotangent of the hidden values' gradient
        to_w1 = _times_slope(to_active, hidden, slope).T @ of_inputs if needs[3] else None
        bend = bend_of_gelu(hidden).mul_(to_active).mul_(of_hidden)
        of_active = GELU.gradient(of_hidden, hidden) if slope is None else of_hidden.mul_(slope)
        to_w2 = rows.T @ of_active if needs[4] else None
        of_g = (of_active @ w2.T).view(ctx.shape)
        of_g = of_g if ctx.eps is None else of_g.add_(v)
        return ctx.lead.padded(of_g), bend, None, to_w1, to_w2, None, of_x, to_w, *(None,) * 3


def _slope(hidden: Tensor) -> Tensor:
    """Return the derivative of the active values."""
    return GELU.gradient(torch.ones_like(hidden), hidden)


def _times_slope(gradient: Tensor, hidden: Tensor, slope: Tensor | None) -> Tensor:
    """Return the gradient of the hidden values from that of the active ones."""
    return GELU.gradient(gradient, hidden) if slope is None else gradient * slope
