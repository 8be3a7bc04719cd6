"""Attention whose second derivative keeps no matrix of tokens by tokens."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel


class Attention(Function):
    """``F.scaled_dot_product_attention`` of q (B,N,D), k (B,M,D) and v (B,M,E), without mask and dropout.

    B is images times heads.
    The forward pass takes the fused kernel; the passes back compute the attention matrix P anew from q and k.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, heads: int) -> Tensor:  # noqa: ANN401, D102
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        # The fused kernels take four dimensions.
        query, key, value = (tensor.reshape(-1, heads, *tensor.shape[1:]) for tensor in (q, k, v))
        return F.scaled_dot_product_attention(query, key, value, scale=scale).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        if torch.is_grad_enabled():
            return *AttentionGradient.apply(gradients[0], *ctx.saved_tensors, ctx.scale), None, None
        q, k, v = ctx.saved_tensors
        return *_gradients(gradients[0], q, k, v, ctx.scale), None, None


class AttentionGradient(Function):
    """The gradients of q, k and v from the output's g (B,N,E).

    P = softmax(s q k'), A = g v', Z = P (A - rowsum(P A)) elementwise; the gradients are s Z k, s Z' q and P' g.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,  # noqa: ANN401 - autograd's
        g: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(g, q, k, v)
        ctx.scale = scale
        return _gradients(g, q, k, v, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_q: Tensor, to_k: Tensor, to_v: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        g, q, k, v = ctx.saved_tensors
        scale = ctx.scale
        p, a, z = _matrices(g, q, k, v, scale)
        e = torch.baddbmm(to_q @ k.mT, q, to_k.mT) * scale  # cotangent of Z
        mean = (p * e).sum(-1, keepdim=True)
        of_a = p * (e - mean)  # cotangent of A
        of_p = g @ to_v.mT + e * (a - (p * a).sum(-1, keepdim=True)) - mean * a  # cotangent of P
        of_s = _softmax_backward(p, of_p)  # of the scaled products
        return (
            torch.baddbmm(of_a @ v, p, to_v),
            torch.baddbmm(of_s @ k, z, to_k).mul_(scale),
            torch.baddbmm(of_s.mT @ q, z.mT, to_q).mul_(scale),
            of_a.mT @ g,
            None,
        )


def _matrices(g: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return P, A and Z, each (B,N,M)."""
    p = (q @ k.mT * scale).softmax(-1)
    a = g @ v.mT
    return p, a, _softmax_backward(p, a)


def _gradients(g: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v."""
    p, _, z = _matrices(g, q, k, v, scale)
    return (z @ k).mul_(scale), (z.mT @ q).mul_(scale), p.mT @ g


def _softmax_backward(p: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of a softmax's input, from its output p."""
    return torch.ops.aten._softmax_backward_data(gradient, p, -1, p.dtype)  # type: ignore[no-any-return]


def attend(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Tensor:  # noqa: ANN401 - torch's
    """Stand in for ``F.scaled_dot_product_attention``; masks, dropout and the like take torch's unfused arithmetic."""
    if not rest and not any(value for name, value in options.items() if name not in ("scale", "attn_mask")):
        scale, lead = options.get("scale"), query.shape[:-2]
        if options.get("attn_mask") is None and lead and lead == key.shape[:-2] == value.shape[:-2]:
            scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
            # Strided heads are copied here once, and not by each product.
            flat = (tensor.flatten(0, -3) for tensor in (query, key, value))
            outputs: Tensor = Attention.apply(*flat, scale, lead[-1])
            return outputs.reshape(*lead, *outputs.shape[1:])
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(query, key, value, *rest, **options)
