"""The neural harmonizer loss: agreement of saliency and human map over a Gaussian pyramid."""

from collections.abc import Callable

import torch
from torch import Tensor

from harmonizer.functional.maps import standardize_cut
from harmonizer.functional.pyramid import gaussian_pyramid

SCALE_EPSILON = 1e-6  # in the match of the two maps' maxima; Fel et al. 2022, released code

LevelMetric = Callable[[Tensor, Tensor], Tensor]
"""Errors (B,h,w) of one pyramid level, from the saliency's level and the target's, both (B,h,w)."""


def squared_error(level: Tensor, target: Tensor) -> Tensor:
    """Return the elementwise squared error, (B,h,w); the published level metric.

    >>> squared_error(torch.tensor([[[3.0]]]), torch.tensor([[[1.0]]]))
    tensor([[[4.]]])
    """
    return (level - target).square()


def harmonizer_loss(
    saliency: Tensor,
    human: Tensor,
    has_map: Tensor,
    *,
    levels: int = 5,
    metric: LevelMetric = squared_error,
) -> Tensor:
    """Penalise where a model's saliency and the human map disagree, at every scale of a Gaussian pyramid.

    Both maps are standardised and cut; the human one is then scaled to the saliency's maximum, without a gradient
    through that maximum. The mean runs over all B samples, not over those with a map: so that under DDP, or with
    accumulation, averaged gradients equal those of one large batch however the maps are distributed. Computed in
    float32 at least.

    Args:
        saliency: (B,H,W) signed, with a graph when it is to be trained.
        human: (B,H,W) >= 0; ignored where ``has_map`` is False.
        has_map: (B,) bool.
        levels: Pyramid levels, the full resolution included.
        metric: Elementwise error of one level.

    Returns:
        () loss, >= 0; exactly 0, with a zero gradient, when no sample has a map.

    Raises:
        ValueError: The shapes do not fit.

    Reference:
        Fel et al. 2022 (arXiv 2211.04533), equation 2, as the released package computes it.

    >>> ramp = torch.arange(64.0).reshape(1, 8, 8)
    >>> bool(harmonizer_loss(ramp, 3 * ramp, torch.tensor([True]), levels=2) < 1e-9)
    True
    """
    if saliency.ndim != 3 or saliency.shape != human.shape or has_map.shape != saliency.shape[:1]:
        raise ValueError(
            "expected saliency and human (B,H,W) and has_map (B,), "
            f"got {tuple(saliency.shape)}, {tuple(human.shape)} and {tuple(has_map.shape)}"
        )
    mapped = has_map[:, None, None].bool()
    dtype = torch.promote_types(saliency.dtype, torch.float32)
    # where, not a product: an absent map may hold anything, NaN included.
    saliency_cut = standardize_cut(torch.where(mapped, saliency.to(dtype), 0.0))
    human_cut = standardize_cut(torch.where(mapped, human.to(dtype), 0.0))
    human_scale = human_cut.amax((1, 2), keepdim=True) + SCALE_EPSILON  # (B,1,1)
    saliency_scale = saliency_cut.detach().amax((1, 2), keepdim=True) + SCALE_EPSILON
    target = human_cut / human_scale * saliency_scale
    saliency_pyramid = gaussian_pyramid(saliency_cut, levels)
    target_pyramid = gaussian_pyramid(target, levels)
    errors = [metric(*pair).mean() for pair in zip(saliency_pyramid, target_pyramid, strict=True)]
    return torch.stack(errors).mean()
