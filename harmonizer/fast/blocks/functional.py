"""Parts of a network with several layers as one function each."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from harmonizer.fast.autocast import cast
from harmonizer.fast.blocks.mlp import Mlp
from harmonizer.fast.blocks.self_attention import SelfAttention

LinearPair = tuple[Tensor, Tensor | None, Tensor, Tensor | None]
Norm = tuple[Tensor, Tensor, float]


def apply_mlp(inputs: Tensor, linear: LinearPair, norm: Norm | None = None) -> Tensor:
    """Run two linear layers around a GELU as one function that can be differentiated twice.

    Args:
        inputs: x (B,...,C).
        linear: Weight (H,C) and bias (H,) of the first layer, weight (C',H) and bias (C',) of the second.
        norm: Weight (C,), bias (C,) and epsilon of a layer norm that begins a residual branch; not under autocast.

    Returns:
        m(x) (B,...,C'), or x + m(layer norm(x)).

    >>> apply_mlp(torch.rand(2, 5, 3), (torch.rand(7, 3), None, torch.rand(4, 7), torch.rand(4))).shape
    torch.Size([2, 5, 4])
    """
    if has_torch_function_unary(inputs):  # a mode sees one call instead of each operation
        return handle_torch_function(apply_mlp, (inputs,), inputs, linear, norm)
    tensors = cast(inputs, *linear)
    with torch.autocast(inputs.device.type, enabled=False):
        outputs: Tensor = Mlp.apply(*tensors, *(norm or ()))[0]
    return outputs


def apply_self_attention(
    inputs: Tensor,
    linear: LinearPair,
    norm: Norm | None = None,
    *,
    heads: int,
    scale: float,
    queries: int | None = None,
) -> Tensor:
    """Run self-attention with the linear layers around it as one function that can be differentiated twice.

    Args:
        inputs: x (B,N,C).
        linear: Weight (3HD,C) and bias (3HD,) for queries, keys and values of H heads; weight (C',HD) and bias (C',).
        norm: Layer norm as in :func:`apply_mlp`.
        heads: H.
        scale: Factor of the products of queries and keys.
        queries: M; only the first M tokens are queries and have an output. None takes all N.

    Returns:
        a(x) (B,M,C'), or x + a(layer norm(x)).

    >>> linear = torch.rand(24, 3), None, torch.rand(6, 8), None
    >>> apply_self_attention(torch.rand(2, 5, 3), linear, heads=2, scale=0.5).shape
    torch.Size([2, 5, 6])
    """
    if has_torch_function_unary(inputs):
        settings: Any = {"heads": heads, "scale": scale, "queries": queries}
        return handle_torch_function(apply_self_attention, (inputs,), inputs, linear, norm, **settings)
    tensors = cast(inputs, *linear)
    with torch.autocast(inputs.device.type, enabled=False):
        outputs: Tensor = SelfAttention.apply(*tensors, heads, scale, queries, *(norm or ()))[0]
    return outputs
