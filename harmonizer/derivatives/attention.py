"""Attention whose second derivative keeps no matrix of tokens by tokens, unless it is small."""

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
    The forward pass takes the fused kernel. The passes back compute the attention matrix P anew from q and k; with at
    most D keys, where P is no larger than q, what is tokens by tokens is kept instead.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, heads: int) -> Tensor:  # noqa: ANN401, D102
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        ctx.p = None
        # The fused kernels take four dimensions.
        query, key, value = (tensor.reshape(-1, heads, *tensor.shape[1:]) for tensor in (q, k, v))
        return F.scaled_dot_product_attention(query, key, value, scale=scale).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        q, k, v = ctx.saved_tensors
        if torch.is_grad_enabled():
            if k.shape[1] <= k.shape[2]:
                ctx.p = _probabilities(q.detach(), k.detach(), ctx.scale)
            return *AttentionGradient.apply(gradients[0], q, k, v, ctx.p, ctx.scale), None, None
        p, ctx.p = ctx.p, None
        return *_gradients(gradients[0], q, k, v, p, ctx.scale)[:3], None, None


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
        p: Tensor | None,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        to_q, to_k, to_v, a, z = _gradients(g, q, k, v, p, scale)
        ctx.save_for_backward(g, q, k, v, *((None,) * 3 if p is None else (p, a, z)))
        ctx.scale = scale
        return to_q, to_k, to_v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_q: Tensor, to_k: Tensor, to_v: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401, D102
        g, q, k, v, p, a, z = ctx.saved_tensors
        scale = ctx.scale
        if p is None:
            p, a = _probabilities(q, k, scale), torch.bmm(g, v.mT)
            z = _softmax_backward(p, a)
        e = torch.baddbmm(torch.bmm(to_q, k.mT), q, to_k.mT, beta=scale, alpha=scale)  # cotangent of Z
        mean = torch.linalg.vecdot(p, e)[..., None]
        of_a = p * (e - mean)  # cotangent of A
        # of P: g to_v' + e (A - rowsum(P A)) - mean A
        of_p = torch.baddbmm(e * (a - torch.linalg.vecdot(p, a)[..., None]), g, to_v.mT).addcmul_(mean, a, value=-1)
        of_s = _softmax_backward(p, of_p)  # of the scaled products
        return (
            torch.baddbmm(torch.bmm(of_a, v), p, to_v),
            torch.baddbmm(torch.bmm(of_s, k), z, to_k, beta=scale, alpha=scale),
            torch.baddbmm(torch.bmm(of_s.mT, q), z.mT, to_q, beta=scale, alpha=scale),
            torch.bmm(of_a.mT, g),
            None,
            None,
        )


def _probabilities(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Return P (B,N,M)."""
    return torch.bmm(q, k.mT).mul_(scale).softmax(-1)


def _gradients(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, and A and Z (B,N,M)."""
    p = _probabilities(q, k, scale) if p is None else p
    a = torch.bmm(g, v.mT)
    z = _softmax_backward(p, a)
    return torch.bmm(z, k).mul_(scale), torch.bmm(z.mT, q).mul_(scale), torch.bmm(p.mT, g), a, z


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
