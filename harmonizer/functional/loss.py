"""The neural harmonizer loss: disagreement of saliency and human map over a Gaussian pyramid."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from harmonizer.functional.levels import LEVEL_METRICS, LevelMetric
from harmonizer.functional.pyramid import gaussian_pyramid
from harmonizer.functional.saliency import Deviation, standardize_cut

SCALE_EPSILON = 1e-6  # in the match of the two maps' maxima; Fel et al. 2022, released code
ORIGINAL_SCALE_EPSILON = 1e-4  # the same in the training code of August 2022

ScaleMatch = Literal["released", "original", "attached"]
# Epsilons added to the maximum of the human map and of the saliency, and whether the latter has a gradient.
SCALE_MATCHES: Mapping[str, tuple[float, float, bool]] = {
    "released": (SCALE_EPSILON, SCALE_EPSILON, False),
    "original": (ORIGINAL_SCALE_EPSILON, 0.0, False),
    "attached": (SCALE_EPSILON, SCALE_EPSILON, True),
}


def harmonizer_loss(
    saliency: Tensor,
    human: Tensor,
    has_map: Tensor,
    *,
    levels: int = 5,
    metric: str | LevelMetric = "mse",
    std: Deviation = "population",
    scale_match: ScaleMatch = "released",
    top_k: float = 1.0,
) -> Tensor:
    """Penalise disagreement of a model's saliency and the human map at every scale of a Gaussian pyramid.

    Both maps are standardised and cut; the human map is then scaled to the saliency's maximum, without a gradient
    through that maximum. The mean runs over all B samples, not only those with a map, so that under DDP or with
    accumulation the averaged gradients equal those of one large batch, for any distribution of the maps. Computed in
    float32 at least.

    Args:
        saliency: (B,H,W), with a graph when it is to be trained.
        human: (B,H,W) >= 0; ignored where ``has_map`` is False.
        has_map: (B,) bool.
        levels: Pyramid levels, the full resolution included.
        metric: Error of one level: ``"mse"``, ``"cosine"``, ``"bce"``, ``"masked_bce"``, ``"contrastive"`` or a
            function; see :mod:`harmonizer.functional.levels`.
        std: Standard deviation as in :func:`standardize_cut`.
        scale_match: How the target is scaled to the saliency's maximum, where h and S are the two standardised maps.
            ``"released"``: h / (max h + 1e-6) x (max S + 1e-6), no gradient through max S; ``"original"``:
            h / (max h + 1e-4) x max S, likewise (training code of August 2022); ``"attached"``: as released, with that
            gradient (training code of 2023).
        top_k: Share of the standardised saliency's pixels to keep, the largest ones; the others become 0.

    Returns:
        () loss, >= 0; exactly 0, with a zero gradient, when no sample has a map.

    Raises:
        ValueError: The shapes differ, or a setting is unknown or out of range.

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
    if isinstance(metric, str) and metric not in LEVEL_METRICS:
        raise ValueError(f"expected a level metric of {', '.join(LEVEL_METRICS)}, got {metric!r}")
    if scale_match not in SCALE_MATCHES:
        raise ValueError(f"expected a scale_match of {', '.join(SCALE_MATCHES)}, got {scale_match!r}")
    if not 0 < top_k <= 1:
        raise ValueError(f"expected top_k, a share of the pixels, in (0,1], got {top_k}")
    error_of = LEVEL_METRICS[metric] if isinstance(metric, str) else metric
    mapped = has_map[:, None, None].bool()
    dtype = torch.promote_types(saliency.dtype, torch.float32)
    # where instead of a product: an absent map may hold any values, including NaN.
    saliency_cut = standardize_cut(torch.where(mapped, saliency.to(dtype), 0.0), std=std)
    human_cut = standardize_cut(torch.where(mapped, human.to(dtype), 0.0), std=std)
    if top_k < 1:
        saliency_cut = keep_top(saliency_cut, top_k)
    human_epsilon, saliency_epsilon, attached = SCALE_MATCHES[scale_match]
    human_max, saliency_max = (maps.amax((1, 2), keepdim=True) for maps in (human_cut, saliency_cut))  # (B,1,1)
    saliency_max = saliency_max if attached else saliency_max.detach()
    target = human_cut / (human_max + human_epsilon) * (saliency_max + saliency_epsilon)
    saliency_pyramid = gaussian_pyramid(saliency_cut, levels)
    target_pyramid = gaussian_pyramid(target, levels)
    errors = []
    for pair in zip(saliency_pyramid, target_pyramid, strict=True):
        error = error_of(*pair)  # (B,...)
        errors.append(torch.where(has_map.bool().reshape(-1, *[1] * (error.ndim - 1)), error, 0.0).mean())
    return torch.stack(errors).mean()


def keep_top(maps: Tensor, share: float) -> Tensor:
    """Keep the largest values of each map and set the others to 0; ties with the smallest kept value are kept.

    Args:
        maps: (B,H,W).
        share: Share of the pixels, in (0,1]; at least one is kept.

    Returns:
        (B,H,W).

    >>> keep_top(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), 0.5)
    tensor([[[0., 0., 3., 4.]]])
    """
    flat = maps.detach().flatten(1)
    threshold = flat.topk(max(1, round(share * flat.shape[1])), dim=1).values[:, -1]
    return torch.where(maps >= threshold[:, None, None], maps, 0.0)
