"""Shared code of the parts that run as one function: linear maps, and the layer norm before a residual branch.

Without an ``eps`` a part has neither norm nor residual: its inputs are x itself. ``g`` is the gradient of a part's
outputs and ``grad_x`` that of x; ``v`` is the cotangent of ``grad_x``, and ``grad_grad_x`` the resulting one of x.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harmonizer.fast import normalisation
from harmonizer.fast.blocks.prefix import BatchPrefix

Kept = Sequence[Tensor | None]


class Norm(NamedTuple):
    """The layer norm of x (B,...,C) over its last dimension."""

    x: Tensor
    w: Tensor | None
    mean: Tensor | None
    scale: Tensor | None
    eps: float | None


def enter(
    x: Tensor, w: Tensor | None, b: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return a branch's inputs, which are x normalised over its last dimension, and the norm's mean and scale."""
    return (x, None, None) if eps is None else torch.native_layer_norm(x, x.shape[-1:], w, b, eps)


def differentiate(
    grad_inputs: Tensor, g: Tensor, norm: Norm, needs: Sequence[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of x, w and b, from those of a branch's inputs and of its output, g."""
    x, w, mean, scale, eps = norm
    if eps is None:
        return grad_inputs, None, None
    # The kernel only checks whether there is a bias.
    grad_x, grad_w, grad_b = torch.ops.aten.native_layer_norm_backward(
        grad_inputs, x, x.shape[-1:], mean, scale, w, w, [True, *needs]
    )
    of_queries(grad_x, g).add_(g)
    return grad_x, grad_w, grad_b


def project(grad_inputs: Tensor, g: Tensor, norm: Norm, prefix: BatchPrefix) -> tuple[Tensor, Kept]:
    """Return the gradient of x for the first samples, and the tensors that :func:`differentiate_twice` needs."""
    x, w, mean, scale, eps = norm
    if eps is None or mean is None or scale is None:
        return grad_inputs, ()
    mean, scale = prefix.first(mean), prefix.first(scale)
    found = normalisation.project(grad_inputs, x, w, mean, scale, x.shape[-1:])
    grad_x = found.clone()
    of_queries(grad_x, g).add_(g)
    return grad_x, (grad_inputs, x, w, mean, scale, found)


def differentiate_twice(v: Tensor, kept: Kept, eps: float | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the cotangents of the gradient of a branch's inputs, of x and of w, given v, that of x's gradient."""
    if eps is None:
        return v, None, None
    return normalisation.second_gradients(kept, v, v.shape[-1:], eps)


def of_queries(values: Tensor, outputs: Tensor) -> Tensor:
    """Return the part (B,M,C) of values (B,N,C) whose tokens have outputs (B,M,C)."""
    return values if values.shape == outputs.shape else values[:, : outputs.shape[1]]


def flat(values: Tensor) -> Tensor:
    """Return values (...,C) as rows (N,C)."""
    return values.reshape(-1, values.shape[-1])
