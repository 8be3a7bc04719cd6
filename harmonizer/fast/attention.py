"""Attention whose second derivative keeps no token-by-token matrix, unless it is small.

With P = softmax(s q k'), A = g v' and Z = P (A - rowsum(P A)) elementwise, the gradients of q, k and v from the
output's g are s Z k, s Z' q and P' g.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel


class Attention(Function):
    """``F.scaled_dot_product_attention`` of q (B,N,D), k (B,M,D) and v (B,M,E), without mask and dropout.

    B is images times heads. The forward pass takes the fused kernel. The backward passes recompute the attention matrix
    P from q and k. With at most D keys, where P is no larger than q, the token-by-token matrices are kept instead.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, heads: int) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        ctx.p = None
        return fused(q, k, v, scale, heads)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        if torch.is_grad_enabled():
            if is_small(k):
                ctx.p = probabilities(q.detach(), k.detach(), ctx.scale)
            return *AttentionGradient.apply(upstream[0], q, k, v, ctx.p, ctx.scale), None, None
        p, ctx.p = ctx.p, None
        found = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        gradients(upstream[0], (q, k, v), p, ctx.scale, found)
        return *found, None, None


class AttentionGradient(Function):
    """The gradients of q, k and v from the output's g (B,N,E)."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        products = gradients(g, (q, k, v), p, scale, found)
        ctx.save_for_backward(g, q, k, v, *((None,) * 3 if p is None else products))
        ctx.scale = scale
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        g, q, k, v, *products = ctx.saved_tensors
        found = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        grad_grad_g = second_gradients(g, (q, k, v), cotangents, products, ctx.scale, found)
        return grad_grad_g, *found, None, None


def is_small(k: Tensor) -> bool:
    """Return whether the token-by-token matrices are kept: P is no larger than q."""
    return k.shape[-2] <= k.shape[-1]


def fused(q: Tensor, k: Tensor, v: Tensor, scale: float, heads: int) -> Tensor:
    """Return the outputs (B,N,E) by the fused kernels, which take four dimensions."""
    query, key, value = (tensor.reshape(-1, heads, *tensor.shape[1:]) for tensor in (q, k, v))
    return F.scaled_dot_product_attention(query, key, value, scale=scale).flatten(0, 1)


def probabilities(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Return P (B,N,M)."""
    return _scaled(q, k.mT, scale).softmax(-1)


def gradients(
    g: Tensor, qkv: Sequence[Tensor], p: Tensor | None, scale: float, found: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradients of q, k and v into ``found``, and return P, A and Z (B,N,M)."""
    q, k, v = qkv
    grad_q, grad_k, grad_v = found
    p = probabilities(q, k, scale) if p is None else p
    a = torch.bmm(g, v.mT)
    z = _softmax_backward(p, a)
    torch.baddbmm(grad_q, z, k, beta=0, alpha=scale, out=grad_q)
    torch.baddbmm(grad_k, z.mT, q, beta=0, alpha=scale, out=grad_k)
    torch.bmm(p.mT, g, out=grad_v)
    return p, a, z


def second_gradients(
    g: Tensor,
    qkv: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    products: Sequence[Tensor | None],
    scale: float,
    found: Sequence[Tensor],
) -> Tensor:
    """Return the cotangent of g, given those of the gradients of q, k and v, and write theirs into ``found``.

    ``products`` are P, A and Z where they were kept, otherwise None.
    """
    q, k, v = qkv
    c_q, c_k, c_v = cotangents
    grad_grad_q, grad_grad_k, grad_grad_v = found
    p, a, z = products
    if p is None or a is None or z is None:
        p, a = probabilities(q, k, scale), torch.bmm(g, v.mT)
        z = _softmax_backward(p, a)
    e = torch.baddbmm(torch.bmm(c_q, k.mT), q, c_k.mT, beta=scale, alpha=scale)  # cotangent of Z
    mean = torch.linalg.vecdot(p, e)[..., None]
    grad_grad_a = p * (e - mean)  # cotangent of A
    # of P: g c_v' + e (A - rowsum(P A)) - mean A
    e.mul_(a - torch.linalg.vecdot(p, a)[..., None])
    grad_grad_p = torch.baddbmm(e, g, c_v.mT).addcmul_(mean, a, value=-1)
    grad_grad_s = _softmax_backward(p, grad_grad_p)  # cotangent of the scaled products
    torch.baddbmm(torch.bmm(grad_grad_s, k), z, c_k, beta=scale, alpha=scale, out=grad_grad_q)
    torch.baddbmm(torch.bmm(grad_grad_s.mT, q), z.mT, c_q, beta=scale, alpha=scale, out=grad_grad_k)
    torch.bmm(grad_grad_a.mT, g, out=grad_grad_v)
    return torch.baddbmm(torch.bmm(grad_grad_a, v), p, c_v)


def _scaled(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return ``scale`` a b in one call."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


def _softmax_backward(p: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of a softmax's input, from its output p."""
    return torch.ops.aten._softmax_backward_data(gradient, p, -1, p.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Tensor:
    """Replace ``F.scaled_dot_product_attention``; masks, dropout and other options run in torch's unfused form."""
    if not rest and not any(value for name, value in options.items() if name not in ("scale", "attn_mask")):
        scale, lead = options.get("scale"), query.shape[:-2]
        if options.get("attn_mask") is None and lead and lead == key.shape[:-2] == value.shape[:-2]:
            scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
            # Copies strided heads once, instead of in each product.
            flat = (tensor.flatten(0, -3) for tensor in (query, key, value))
            outputs: Tensor = Attention.apply(*flat, scale, lead[-1])
            return outputs.reshape(*lead, *outputs.shape[1:])
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(query, key, value, *rest, **options)
