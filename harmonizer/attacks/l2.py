"""L2 geometry of batches of images: norms, steps and projections, one row an image."""

import torch
from torch import Tensor


def norms(vectors: Tensor) -> Tensor:
    """Return the L2 norm (n,) of each row of ``vectors`` (n,...), in their dtype."""
    lengths: Tensor = torch.linalg.vector_norm(vectors.flatten(1), dim=1)
    return lengths


def per_row(values: Tensor) -> Tensor:
    """Shape (n,) values to (n,1,1,1), to scale images row by row."""
    return values[:, None, None, None]


def is_usable(gradients: Tensor) -> Tensor:
    """Say which gradients (n,...) are finite and not zero, (n,) bool."""
    flat = gradients.flatten(1)
    return flat.isfinite().all(1) & (flat != 0).any(1)


def unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row at norm 1, and which rows (n,) are usable; the others become zero."""
    usable = is_usable(vectors)
    vectors = torch.where(per_row(usable), vectors, 0.0)
    # Scale by the largest entry first: squares of tiny gradients underflow.
    vectors = vectors / per_row(torch.where(usable, vectors.flatten(1).abs().amax(1), 1.0))
    return vectors / per_row(torch.where(usable, norms(vectors), 1.0)), usable


def to_sphere(images: Tensor, moved: Tensor, radius: Tensor) -> Tensor:
    """Rescale ``moved - images`` to ``radius`` (n,), then clip to [0,1], which may shorten it again."""
    offset = moved - images
    length = norms(offset)
    scale = radius / torch.where(length > 0, length, 1.0)
    return (images + per_row(scale) * offset).clamp(0, 1)
