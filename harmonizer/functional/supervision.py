"""Losses of explanation supervision by others, with which the harmonizer is compared."""

import torch
from torch import Tensor

from harmonizer.functional.saliency import standardize_cut


def right_reasons_loss(gradient: Tensor, human: Tensor, has_map: Tensor) -> Tensor:
    """Penalise the input gradient where people saw nothing of importance: right for the right reasons.

    ``sum (A g)^2`` of each image, with A = 1 at the pixels whose human importance is at most the map's mean, which are
    those that :func:`standardize_cut` cuts; the paper's annotations are binary. A constant map marks nothing. The mean
    runs over all B samples, as in :func:`harmonizer_loss`.

    Args:
        gradient: (B,C,H,W) of the sum over the classes of log p, with a graph when it is to be trained.
        human: (B,H,W) >= 0; ignored where ``has_map`` is False.
        has_map: (B,) bool.

    Returns:
        () loss, >= 0.

    Reference:
        Ross, Hughes & Doshi-Velez 2017 (arXiv 1703.03717), equation 1; github.com/dtak/rrr.

    >>> human = torch.tensor([[[0.0, 1.0]]])
    >>> right_reasons_loss(torch.full((1, 3, 1, 2), 2.0), human, torch.tensor([True]))
    tensor(12.)
    """
    seen = standardize_cut(human) > 0
    irrelevant = ~seen & seen.any(2).any(1)[:, None, None] & has_map[:, None, None]  # (B,H,W)
    return torch.where(irrelevant[:, None], gradient.square(), 0.0).sum() / len(gradient)
