"""L2 geometry of batches of images: norms, steps and projections, one row per image."""

import torch
from torch import Tensor


def rows_of(vectors: Tensor) -> Tensor:
    """Return ``vectors`` (n,...) as (n,values), each row in memory order."""
    if vectors.ndim == 4 and vectors.is_contiguous(memory_format=torch.channels_last):
        vectors = vectors.permute(0, 2, 3, 1)
    return vectors.flatten(1)


def norms(vectors: Tensor) -> Tensor:
    """Return the L2 norm (n,) of each row of ``vectors`` (n,...), in their dtype."""
    lengths: Tensor = torch.linalg.vector_norm(rows_of(vectors), dim=1)
    return lengths


def per_row(values: Tensor) -> Tensor:
    """Shape (n,) values to (n,1,1,1), to scale images row by row."""
    return values[:, None, None, None]


def largest(vectors: Tensor) -> Tensor:
    """Return the largest absolute entry (n,) of each row of ``vectors`` (n,...); NaN for a row with a NaN."""
    return rows_of(vectors).abs().amax(1)


def is_usable(gradients: Tensor) -> Tensor:
    """Return which gradients (n,...) are finite and not zero, (n,) bool."""
    return _is_length(largest(gradients))


def unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row scaled to norm 1, and which rows (n,) are usable; the others become zero."""
    scale = largest(vectors)
    usable = _is_length(scale)
    # Scale by the largest entry first: squares of tiny gradients underflow.
    vectors = vectors / per_row(torch.where(usable, scale, 1.0))
    if not bool(usable.all()):
        vectors[~usable] = 0.0
    return vectors.div_(per_row(torch.where(usable, norms(vectors), 1.0))), usable


def _is_length(values: Tensor) -> Tensor:
    return values.isfinite() & (values > 0)


def to_sphere(images: Tensor, moved: Tensor, radius: Tensor) -> Tensor:
    """Rescale ``moved - images`` to ``radius`` (n,), then clip to [0,1], which may shorten it again.

    Overwrites ``moved``.
    """
    offset = moved.sub_(images)
    length = norms(offset)
    scale = radius / torch.where(length > 0, length, 1.0)
    return offset.mul_(per_row(scale)).add_(images).clamp_(0, 1)


def to_ball(images: Tensor, offset: Tensor, radius: Tensor) -> Tensor:
    """Shorten offsets (n,3,H,W) to ``radius`` (n,), above 0, then clip them so that ``images + offset`` is in [0,1].

    >>> to_ball(torch.zeros(1, 1, 1, 2), torch.tensor([[[[3.0, -4.0]]]]), torch.tensor([1.0]))
    tensor([[[[0.6000, 0.0000]]]])
    """
    offset = offset * per_row(radius / torch.maximum(norms(offset), radius))
    return (images + offset).clamp(0, 1) - images


def in_ball(normal: Tensor) -> Tensor:
    """Scale Gaussian noise (n,3,H,W) to points in the unit ball; the first value of each sets its length."""
    share = torch.special.ndtr(normal.flatten(1)[:, 0])
    return per_row(share) * unit(normal)[0]
