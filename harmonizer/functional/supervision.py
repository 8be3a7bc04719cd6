"""Losses of other methods of explanation supervision, for comparison with the harmonizer."""

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.functional.saliency import standardize_cut


def right_reasons_loss(gradient: Tensor, human: Tensor, has_map: Tensor) -> Tensor:
    """Penalise the input gradient at pixels unimportant to people: right for the right reasons.

    ``sum (A g)^2`` of each image, with A = 1 at the pixels whose human importance is at most the map's mean, which
    :func:`standardize_cut` sets to 0; the paper's annotations are binary. A constant map marks no pixel. The mean runs
    over all B samples, as in :func:`harmonizer_loss`.

    Args:
        gradient: (B,C,H,W) gradient of the sum over the classes of log p, with a graph when it is to be trained.
        human: (B,H,W) >= 0; ignored where ``has_map`` is False.
        has_map: (B,) bool.

    Returns:
        () loss, >= 0.

    Reference:
        Ross, Hughes & Doshi-Velez 2017 (arXiv 1703.03717); github.com/dtak/rrr.

    >>> human = torch.tensor([[[0.0, 1.0]]])
    >>> right_reasons_loss(torch.full((1, 3, 1, 2), 2.0), human, torch.tensor([True]))
    tensor(12.)
    """
    marked = has_map & _marks(human)
    irrelevant = (standardize_cut(human) == 0) & marked[:, None, None]  # (B,H,W)
    return torch.where(irrelevant[:, None], gradient.square(), 0.0).sum() / len(gradient)


def activation_map_loss(activation: Tensor, human: Tensor, has_map: Tensor) -> Tensor:
    """Compare class activation maps with human maps: CYBORG.

    The human map is resized to the activation map's size, and both are scaled to [0,1] by their own minimum and
    maximum; a constant human map counts as none. Mean squared error over all B samples, as in :func:`harmonizer_loss`.

    Args:
        activation: (B,h,w), with a graph when it is to be trained.
        human: (B,H,W) >= 0; ignored where ``has_map`` is False.
        has_map: (B,) bool.

    Returns:
        () loss in [0,1].

    Reference:
        Boyd et al. 2023 (CYBORG, arXiv 2112.00686); github.com/CVRL/CYBORG, training_code/train_cam.py.

    >>> activation = torch.tensor([[[1.0, 3.0]]])
    >>> activation_map_loss(activation, torch.tensor([[[2.0, 0.0]]]), torch.tensor([True]))
    tensor(1.)
    """
    size = (activation.shape[1], activation.shape[2])
    resized = F.interpolate(human[:, None], size, mode="bilinear", antialias=True, align_corners=False)[:, 0]
    errors = (_to_unit_range(activation) - _to_unit_range(resized)).square()
    marked = has_map & _marks(human)
    return torch.where(marked[:, None, None], errors, 0.0).mean()


def mask_lowest(images: Tensor, saliency: Tensor, uniform: Tensor, *, share: float = 0.5) -> Tensor:
    """Replace the pixels of lowest saliency by random values, as in saliency-guided training.

    Args:
        images: (B,C,H,W).
        saliency: (B,H,W); signed, as in the published code.
        uniform: (B,C,H,W) random numbers in [0,1), scaled to between the channel's minimum and maximum.
        share: Share of the pixels to replace, at least one.

    Returns:
        (B,C,H,W).

    Reference:
        Ismail, Corrada Bravo & Feizi 2021 (arXiv 2111.14338), algorithm 1; github.com/ayaabdelsalam91/
        saliency_guided_training, Scripts/interpretable.py.

    >>> images = torch.tensor([[[[0.0, 1.0, 0.25, 0.5]]]])
    >>> mask_lowest(images, torch.tensor([[[-1.0, 2.0, 0.0, 3.0]]]), torch.full((1, 1, 1, 4), 0.75))
    tensor([[[[0.7500, 1.0000, 0.7500, 0.5000]]]])
    """
    flat = saliency.flatten(1)
    lowest = flat.topk(max(1, int(share * flat.shape[1])), largest=False).indices
    masked = torch.zeros_like(flat, dtype=torch.bool).scatter(1, lowest, True).view_as(saliency)[:, None]
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(masked, low + (high - low) * uniform, images)


def gradient_alignment_loss(gradient: Tensor, target: Tensor) -> Tensor:
    """Penalise the angle between input gradients and target gradients: perceptually aligned gradients.

    Args:
        gradient: (B,C,H,W) gradient of a target class's logit, with a graph when it is to be trained.
        target: (B,C,H,W), for example the difference between the mean image of that class and each image.

    Returns:
        () mean over the samples of 1 - cosine, in [0,2].

    Reference:
        Ganz, Kawar & Elad 2023 (arXiv 2207.11378); github.com/royg27/PAG-ROB, TRAIN_CIFAR10.py.

    >>> gradient = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    >>> gradient_alignment_loss(gradient, -3 * gradient)
    tensor(2.)
    """
    return (1 - F.cosine_similarity(gradient.flatten(1), target.flatten(1))).mean()


def _marks(human: Tensor) -> Tensor:
    """Return whether maps (B,H,W) mark some pixels more than others, up to rounding, (B,)."""
    return standardize_cut(human).flatten(1).any(1)


def _to_unit_range(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1.0)
