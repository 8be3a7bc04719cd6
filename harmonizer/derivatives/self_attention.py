"""Self-attention between its projections, as one function with both derivatives; see :mod:`harmonizer.derivatives.mlp`.

The heads' q, k and v are copied once in a pass, and not by each product.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.derivatives import attention
from harmonizer.derivatives.branch import differentiate, differentiate_twice, enter, flat, frozen, project, summed
from harmonizer.derivatives.leading import Leading, leading_of


class Heads(NamedTuple):
    """How rows of images times tokens are cut into heads, and the factor of their products."""

    tokens: int
    heads: int
    factor: float

    def cut(self, rows: Tensor) -> Tensor:
        """Return rows (BN,HD) as (BH,N,D)."""
        return rows.view(-1, self.tokens, self.heads, rows.shape[1] // self.heads).transpose(1, 2).flatten(0, 1)

    def joined(self, cut: Tensor) -> Tensor:
        """Return (BH,N,D) as rows (BN,HD)."""
        return cut.view(-1, self.heads, *cut.shape[1:]).transpose(1, 2).reshape(-1, self.heads * cut.shape[2])

    def cut_three(self, rows: Tensor) -> Tensor:
        """Return rows (BN,3HD) as (3,BH,N,D)."""
        parts = rows.view(-1, self.tokens, 3, self.heads, rows.shape[1] // (3 * self.heads))
        return parts.permute(2, 0, 3, 1, 4).flatten(1, 2)

    def joined_three(self, cut: Tensor) -> Tensor:
        """Return (3,BH,N,D) as rows (BN,3HD)."""
        parts = cut.view(3, -1, self.heads, *cut.shape[2:])
        return parts.permute(1, 3, 0, 2, 4).reshape(-1, 3 * self.heads * cut.shape[3])


class SelfAttention(Function):
    """Map x (B,N,C) to a(x) (B,N,C'); w1 (3HD,C) and b1 (3HD,) give q, k and v of H heads, w2 (C',HD) joins them.

    With an ``eps``, to x + a(layer norm(x)), the norm having the weight w and bias b (C,).
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
        heads: int,
        factor: float,
        w: Tensor | None = None,
        b: Tensor | None = None,
        eps: float | None = None,
    ) -> tuple[Tensor, ...]:
        inputs, mean, scale = enter(x, w, b, eps)
        shape = Heads(x.shape[1], heads, factor)
        qkv = shape.cut_three(F.linear(flat(inputs), w1, b1))
        q, k, v = qkv.unbind(0)
        p = attention.probabilities(q, k, factor) if attention.is_small(k) else None
        rows = shape.joined(attention.fused(q, k, v, factor, heads) if p is None else torch.bmm(p, v))
        outputs = F.linear(rows, w2, b2).view(*x.shape[:-1], len(w2))
        ctx.lead = leading_of(x)
        handles = ctx.lead.first(qkv, 1), w1.detach(), w2.detach(), ctx.lead.first(x.detach())
        ctx.mark_non_differentiable(*frozen(handles[1:], (w1, w2, x)))
        ctx.save_for_backward(x, w, mean, scale, inputs, qkv, p, rows, *handles)
        ctx.set_materialize_grads(False)
        ctx.shape = shape
        ctx.eps = eps
        return outputs if eps is None else outputs.add_(x), *handles

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        x, w, mean, scale, inputs, qkv, p, joined, first_qkv, w1, w2, first_x = ctx.saved_tensors
        g, of_qkv, of_w1, of_w2, of_x = gradients
        g = x.new_zeros(*x.shape[:-1], len(w2)) if g is None else g
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            p = None if p is None else ctx.lead.first(p)
            norm = first_x, w, mean, scale, ctx.eps, ctx.lead
            return SelfAttentionGradient.apply(g, first_qkv, p, w1, w2, ctx.shape, *norm), *(None,) * 9
        rows = flat(g)
        to_qkv = torch.empty_like(qkv)
        attention.gradients(ctx.shape.cut(rows @ w2), *qkv.unbind(0), p, ctx.shape.factor, to_qkv.unbind(0))
        if of_qkv is not None:
            ctx.lead.first(to_qkv, 1).add_(of_qkv)
        to_linear = ctx.shape.joined_three(to_qkv)
        needs = ctx.needs_input_grad
        to_x, to_w, to_b = differentiate((to_linear @ w1).view(inputs.shape), g, x, w, mean, scale, ctx.eps, needs[7:9])
        if of_x is not None:
            ctx.lead.first(to_x).add_(of_x)
        return (
            to_x,
            summed(of_w1, to_linear, flat(inputs)) if needs[1] else None,
            to_linear.sum(0) if needs[2] else None,
            summed(of_w2, rows, joined) if needs[3] else None,
            rows.sum(0) if needs[4] else None,
            None,
            None,
            to_w,
            to_b,
            None,
        )


class SelfAttentionGradient(Function):
    """The gradient of x from the output's g (B,N,C')."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        g: Tensor,
        qkv: Tensor,
        p: Tensor | None,
        w1: Tensor,
        w2: Tensor,
        shape: Heads,
        x: Tensor,
        w: Tensor | None,
        mean: Tensor | None,
        scale: Tensor | None,
        eps: float | None,
        lead: Leading,
    ) -> Tensor:
        g = lead.first(g)
        rows = flat(g)
        of_heads = shape.cut(rows @ w2)
        to_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        products = attention.gradients(of_heads, *qkv.unbind(0), p, shape.factor, to_qkv.unbind(0))
        to_linear = shape.joined_three(to_qkv)
        to_inputs = (to_linear @ w1).view(*g.shape[:-1], w1.shape[1])
        to_x, norm = project(to_inputs, g, x, w, mean, scale, eps, lead)
        kept = (None,) * 3 if p is None else products
        ctx.save_for_backward(rows, qkv, w1, w2, of_heads, to_linear, *kept, *norm)
        ctx.shape = shape
        ctx.eps = eps
        ctx.lead = lead
        ctx.of = g.shape
        return lead.padded(to_x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        rows, qkv, w1, w2, of_heads, to_linear, p, a, z, *norm = ctx.saved_tensors
        needs = ctx.needs_input_grad
        v = ctx.lead.first(v)
        of_inputs, of_x, to_w = differentiate_twice(v, norm, ctx.eps)
        of_inputs = flat(of_inputs)
        to_w1 = to_linear.T @ of_inputs if needs[3] else None
        cotangents = ctx.shape.cut_three(of_inputs @ w1.T).unbind(0)
        of_qkv = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        of_rows = ctx.shape.joined(
            attention.second_gradients(
                of_heads, *qkv.unbind(0), *cotangents, (p, a, z), ctx.shape.factor, of_qkv.unbind(0)
            )
        )
        to_w2 = rows.T @ of_rows if needs[4] else None
        of_g = (of_rows @ w2.T).view(ctx.of)
        of_g = of_g if ctx.eps is None else of_g.add_(v)
        return ctx.lead.padded(of_g), of_qkv, None, to_w1, to_w2, None, of_x, to_w, *(None,) * 4
