"""L2 geometry of batches of images: norms, steps and projections, one row an image."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def norms(vectors: Tensor) -> Tensor:
    """Return the L2 norm (n,) of each row of ``vectors`` (n,...), in their dtype."""
    return torch.linalg.vector_norm(vectors.flatten(1), dim=1)


def per_row(values: Tensor) -> Tensor:
    """Shape (n,) values to (n,1,1,1), to scale images row by row."""
    return values[:, None, None, None]


def unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row at norm 1, and which rows (n,) bool are usable: finite and not zero. The others become zero."""
    vectors = torch.where(per_row(vectors.flatten(1).isfinite().all(1)), vectors, 0.0)
    # Scale by the largest entry first: squares of tiny gradients underflow.
    vectors = vectors / per_row(vectors.flatten(1).abs().amax(1).clamp_min(torch.finfo(vectors.dtype).tiny))
    length = norms(vectors)
    usable = length > 0
    return vectors / per_row(torch.where(usable, length, 1.0)), usable


def to_sphere(images: Tensor, moved: Tensor, radius: Tensor) -> Tensor:
    """Rescale ``moved - images`` to ``radius`` (n,), then clip to [0,1], which may shorten it again."""
    offset = moved - images
    length = norms(offset)
    scale = radius / torch.where(length > 0, length, 1.0)
    return (images + per_row(scale) * offset).clamp(0, 1)


def cross_entropy_of(labels: Tensor) -> Callable[[Tensor, slice], Tensor]:
    """Return the objective that lowers the probability of ``labels`` (n,)."""
    return lambda logits, part: F.cross_entropy(logits, labels[part], reduction="none")
