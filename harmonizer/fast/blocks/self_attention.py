"""Self-attention between its projections, as one function with both derivatives; see :mod:`harmonizer.fast.blocks.mlp`.

The heads' q, k and v are copied once in a pass, and not by each product.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.fast import attention
from harmonizer.fast.blocks.prefix import BatchPrefix, prefix_of
from harmonizer.fast.blocks.residual import (
    Norm,
    asking,
    differentiate,
    differentiate_twice,
    enter,
    flat,
    frozen,
    project,
    summed,
)


class Heads(NamedTuple):
    """How rows of images times tokens are cut into heads, and the factor of their products."""

    tokens: int
    queries: int
    heads: int
    factor: float

    def cut(self, rows: Tensor) -> Tensor:
        """Return rows (BM,HD), M the number of queries, as (BH,M,D)."""
        return rows.view(-1, self.queries, self.heads, rows.shape[1] // self.heads).transpose(1, 2).flatten(0, 1)

    def joined(self, cut: Tensor) -> Tensor:
        """Return (BH,M,D) as rows (BM,HD)."""
        return cut.view(-1, self.heads, *cut.shape[1:]).transpose(1, 2).reshape(-1, self.heads * cut.shape[2])

    def cut_three(self, rows: Tensor) -> Tensor:
        """Return rows (BN,3HD) as (3,BH,N,D)."""
        parts = rows.view(-1, self.tokens, 3, self.heads, rows.shape[1] // (3 * self.heads))
        return parts.permute(2, 0, 3, 1, 4).flatten(1, 2)

    def joined_three(self, cut: Tensor) -> Tensor:
        """Return (3,BH,N,D) as rows (BN,3HD)."""
        parts = cut.view(3, -1, self.heads, *cut.shape[2:])
        return parts.permute(1, 3, 0, 2, 4).reshape(-1, 3 * self.heads * cut.shape[3])

    def split(self, cut: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what (3,BH,N,D) holds of the queries (BH,M,D), the keys and the values (BH,N,D)."""
        q, k, v = cut.unbind(0)
        return q if self.queries == self.tokens else q[:, : self.queries], k, v

    def empty(self, like: Tensor) -> Tensor:
        """Return memory for gradients (3,BH,N,D): zero for tokens that do not ask."""
        make = torch.empty_like if self.queries == self.tokens else torch.zeros_like
        return make(like, memory_format=torch.contiguous_format)


class SelfAttention(Function):
    """Map x (B,N,C) to a(x) (B,M,C'); w1 (3HD,C) and b1 (3HD,) give q, k and v of H heads, w2 (C',HD) joins them.

    M is the number of ``queries``: only the first tokens ask, and have an output.
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
        queries: int | None = None,
        w: Tensor | None = None,
        b: Tensor | None = None,
        eps: float | None = None,
    ) -> tuple[Tensor, ...]:
        inputs, mean, scale = enter(x, w, b, eps)
        shape = Heads(x.shape[1], x.shape[1] if queries is None else queries, heads, factor)
        qkv = shape.cut_three(F.linear(flat(inputs), w1, b1))
        q, k, v = shape.split(qkv)
        p = attention.probabilities(q, k, factor) if attention.is_small(k) else None
        rows = shape.joined(attention.fused(q, k, v, factor, heads) if p is None else torch.bmm(p, v))
        outputs = F.linear(rows, w2, b2).view(len(x), shape.queries, len(w2))
        ctx.lead = prefix_of(x)
        handles = ctx.lead.first(qkv, 1), w1.detach(), w2.detach(), ctx.lead.first(x.detach())
        ctx.mark_non_differentiable(*frozen(handles[1:], (w1, w2, x)))
        ctx.save_for_backward(x, w, mean, scale, inputs, qkv, p, rows, *handles)
        ctx.set_materialize_grads(False)
        ctx.shape = shape
        ctx.eps = eps
        return outputs if eps is None else outputs.add_(asking(x, outputs)), *handles

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        x, w, mean, scale, inputs, qkv, p, joined, first_qkv, w1, w2, first_x = ctx.saved_tensors
        g, of_qkv, of_w1, of_w2, of_x = gradients
        g = x.new_zeros(len(x), ctx.shape.queries, len(w2)) if g is None else g
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            p = None if p is None else ctx.lead.first(p)
            norm = first_x, w, mean, scale, ctx.eps
            return SelfAttentionGradient.apply(g, first_qkv, p, w1, w2, ctx.shape, ctx.lead, *norm), *(None,) * 10
        rows = flat(g)
        shape = ctx.shape
        to_qkv = shape.empty(qkv)
        attention.gradients(shape.cut(rows @ w2), shape.split(qkv), p, shape.factor, shape.split(to_qkv))
        if of_qkv is not None:
            ctx.lead.first(to_qkv, 1).add_(of_qkv)
        to_linear = shape.joined_three(to_qkv)
        to_inputs = (to_linear @ w1).view(inputs.shape)
        needs = ctx.needs_input_grad
        to_x, to_w, to_b = differentiate(to_inputs, g, Norm(x, w, mean, scale, ctx.eps), needs[8:10])
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
            None,
            to_w,
            to_b,
            None,
        )


class SelfAttentionGradient(Function):
    """The gradient of x from the output's g (B,M,C')."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        g: Tensor,
        qkv: Tensor,
        p: Tensor | None,
        w1: Tensor,
        w2: Tensor,
        shape: Heads,
        lead: BatchPrefix,
        *norm: Any,  # noqa: ANN401 - of Norm; its x is that of the first samples
    ) -> Tensor:
        g = lead.first(g)
        rows = flat(g)
        of_heads = shape.cut(rows @ w2)
        to_qkv = shape.empty(qkv)
        products = attention.gradients(of_heads, shape.split(qkv), p, shape.factor, shape.split(to_qkv))
        to_linear = shape.joined_three(to_qkv)
        to_inputs = (to_linear @ w1).view(Norm(*norm).x.shape)
        to_x, of_norm = project(to_inputs, g, Norm(*norm), lead)
        kept = (None,) * 3 if p is None else products
        ctx.save_for_backward(rows, qkv, w1, w2, of_heads, to_linear, *kept, *of_norm)
        ctx.shape = shape
        ctx.eps = Norm(*norm).eps
        ctx.lead = lead
        ctx.g_shape = g.shape
        return lead.padded(to_x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        rows, qkv, w1, w2, of_heads, to_linear, p, a, z, *of_norm = ctx.saved_tensors
        needs = ctx.needs_input_grad
        v = ctx.lead.first(v)
        of_inputs, of_x, to_w = differentiate_twice(v, of_norm, ctx.eps)
        of_inputs = flat(of_inputs)
        to_w1 = to_linear.T @ of_inputs if needs[3] else None
        shape = ctx.shape
        cotangents = shape.split(shape.cut_three(of_inputs @ w1.T))
        of_qkv = shape.empty(qkv)
        of_rows = shape.joined(
            attention.second_gradients(
                of_heads, shape.split(qkv), cotangents, (p, a, z), shape.factor, shape.split(of_qkv)
            )
        )
        to_w2 = rows.T @ of_rows if needs[4] else None
        of_g = (of_rows @ w2.T).view(ctx.g_shape)
        of_g = of_g if ctx.eps is None else of_g.add_(asking(v, of_g))
        return ctx.lead.padded(of_g), of_qkv, None, to_w1, to_w2, None, None, of_x, to_w, *(None,) * 3
