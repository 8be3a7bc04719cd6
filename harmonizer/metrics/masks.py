"""Adversarial alignment under each way to reduce a perturbation to a map: how far does a score hang on the choice?"""

import torch
from torch import Tensor

from harmonizer.functional import MASKS, attack_map, spearman

PUBLISHED_MASK = "abs_of_mean"


def alignment_by_mask(adversarial: Tensor, images: Tensor, human: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """Correlate attack maps with human maps under every mask but the published one.

    Args:
        adversarial: (B,3,H,W) attacked images.
        images: (B,3,H,W) clean images.
        human: (B,H,W) human maps.
        counts: (B,) bool, which images were fooled and have a map.

    Returns:
        By mask, (B,) float64 correlations; NaN where there is none.

    >>> images = torch.rand(1, 3, 4, 4)
    >>> scores = alignment_by_mask(images.square(), images, torch.rand(1, 4, 4), torch.tensor([True]))
    >>> sorted(scores)
    ['l2', 'max_of_abs', 'mean_of_abs']
    """
    scores: dict[str, Tensor] = {}
    for mask in MASKS:
        if mask != PUBLISHED_MASK:
            scores[mask] = images.new_full((len(images),), torch.nan, dtype=torch.float64)
            scores[mask][counts] = spearman(attack_map(adversarial[counts], images[counts], mask=mask), human[counts])
    return scores
