"""Self-attention with its projections as one function with both derivatives; see :mod:`harmonizer.fast.blocks.mlp`.

The heads' q, k and v are copied once per pass, instead of in each product.
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
    differentiate,
    differentiate_twice,
    enter,
    flat,
    of_queries,
    project,
)
from harmonizer.fast.weight_gradient import frozen, summed


class Heads(NamedTuple):
    """The split of rows (images times tokens) into heads, and the factor of their products."""

    tokens: int
    queries: int
    heads: int
    factor: float

    def cut(self, rows: Tensor) -> Tensor:
        """Return rows (BM,HD) as (BH,M,D), where M is the number of queries."""
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
        """Return queries (BH,M,D), keys and values (BH,N,D) from (3,BH,N,D)."""
        q, k, v = cut.unbind(0)
        return q if self.queries == self.tokens else q[:, : self.queries], k, v

    def empty(self, like: Tensor) -> Tensor:
        """Return memory for gradients (3,BH,N,D), zero for tokens that are not queries."""
        make = torch.empty_like if self.queries == self.tokens else torch.zeros_like
        return make(like, memory_format=torch.contiguous_format)


class SelfAttention(Function):
    """Map x (B,N,C) to a(x) (B,M,C'); w1 (3HD,C) and b1 (3HD,) give q, k and v of H heads, w2 (C',HD) joins them.

    M is the number of ``queries``: only the first M tokens are queries and have an output. With an ``eps``, to
    x + a(layer norm(x)), where the norm has weight w and bias b (C,). Callers use the first output only.
    """

    @staticmethod
    def forward(
        ctx: Any,
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
        ctx.prefix = prefix_of(x)
        handles = ctx.prefix.first(qkv, 1), w1.detach(), w2.detach(), ctx.prefix.first(x.detach())
        ctx.mark_non_differentiable(*frozen(handles[1:], (w1, w2, x)))
        ctx.save_for_backward(x, w, mean, scale, inputs, qkv, p, rows, *handles)
        ctx.set_materialize_grads(False)
        ctx.shape = shape
        ctx.eps = eps
        return outputs if eps is None else outputs.add_(of_queries(x, outputs)), *handles

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, w, mean, scale, inputs, qkv, p, joined, first_qkv, w1, w2, first_x = ctx.saved_tensors
        g, grad_grad_qkv, grad_grad_w1, grad_grad_w2, grad_grad_x = gradients
        g = x.new_zeros(len(x), ctx.shape.queries, len(w2)) if g is None else g
        if torch.is_grad_enabled():  # with create_graph, for the gradient of the image alone
            p = None if p is None else ctx.prefix.first(p)
            norm = first_x, w, mean, scale, ctx.eps
            return SelfAttentionGradient.apply(g, first_qkv, p, w1, w2, ctx.shape, ctx.prefix, *norm), *(None,) * 10
        rows = flat(g)
        shape = ctx.shape
        grad_qkv = shape.empty(qkv)
        attention.gradients(shape.cut(rows @ w2), shape.split(qkv), p, shape.factor, shape.split(grad_qkv))
        if grad_grad_qkv is not None:
            ctx.prefix.first(grad_qkv, 1).add_(grad_grad_qkv)
        grad_linear = shape.joined_three(grad_qkv)
        grad_inputs = (grad_linear @ w1).view(inputs.shape)
        needs = ctx.needs_input_grad
        grad_x, grad_w, grad_b = differentiate(grad_inputs, g, Norm(x, w, mean, scale, ctx.eps), needs[8:10])
        if grad_grad_x is not None:
            ctx.prefix.first(grad_x).add_(grad_grad_x)
        return (
            grad_x,
            summed(grad_grad_w1, grad_linear, flat(inputs)) if needs[1] else None,
            grad_linear.sum(0) if needs[2] else None,
            summed(grad_grad_w2, rows, joined) if needs[3] else None,
            rows.sum(0) if needs[4] else None,
            None,
            None,
            None,
            grad_w,
            grad_b,
            None,
        )


class SelfAttentionGradient(Function):
    """The gradient of x from the output's g (B,M,C'); ``norm`` are the fields of a Norm, x of the first samples."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        qkv: Tensor,
        p: Tensor | None,
        w1: Tensor,
        w2: Tensor,
        shape: Heads,
        prefix: BatchPrefix,
        *norm: Any,
    ) -> Tensor:
        g = prefix.first(g)
        rows = flat(g)
        of_heads = shape.cut(rows @ w2)
        grad_qkv = shape.empty(qkv)
        products = attention.gradients(of_heads, shape.split(qkv), p, shape.factor, shape.split(grad_qkv))
        grad_linear = shape.joined_three(grad_qkv)
        grad_inputs = (grad_linear @ w1).view(Norm(*norm).x.shape)
        grad_x, of_norm = project(grad_inputs, g, Norm(*norm), prefix)
        kept = (None,) * 3 if p is None else products
        ctx.save_for_backward(rows, qkv, w1, w2, of_heads, grad_linear, *kept, *of_norm)
        ctx.shape = shape
        ctx.eps = Norm(*norm).eps
        ctx.prefix = prefix
        ctx.g_shape = g.shape
        return prefix.padded(grad_x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        rows, qkv, w1, w2, of_heads, grad_linear, p, a, z, *of_norm = ctx.saved_tensors
        needs = ctx.needs_input_grad
        v = ctx.prefix.first(v)
        grad_grad_inputs, grad_grad_x, grad_w = differentiate_twice(v, of_norm, ctx.eps)
        grad_grad_inputs = flat(grad_grad_inputs)
        grad_w1 = grad_linear.T @ grad_grad_inputs if needs[3] else None
        shape = ctx.shape
        cotangents = shape.split(shape.cut_three(grad_grad_inputs @ w1.T))
        grad_grad_qkv = shape.empty(qkv)
        grad_grad_rows = shape.joined(
            attention.second_gradients(
                of_heads, shape.split(qkv), cotangents, (p, a, z), shape.factor, shape.split(grad_grad_qkv)
            )
        )
        grad_w2 = rows.T @ grad_grad_rows if needs[4] else None
        grad_grad_g = (grad_grad_rows @ w2.T).view(ctx.g_shape)
        grad_grad_g = grad_grad_g if ctx.eps is None else grad_grad_g.add_(of_queries(v, grad_grad_g))
        handles = grad_grad_qkv, None, grad_w1, grad_w2, None, None, grad_grad_x
        return ctx.prefix.padded(grad_grad_g), *handles, grad_w, *(None,) * 3
