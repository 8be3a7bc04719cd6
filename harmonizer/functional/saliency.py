"""Importance maps: input saliency, its standardisation, and the map of an adversarial perturbation."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

# Bessel's correction, and the epsilon added to the standard deviation, outside the root.
DEVIATIONS: Mapping[str, tuple[int, float]] = {
    "population": (0, 1e-5),  # Fel et al. 2022, released code
    "unbiased": (1, 1e-6),  # training code of 2023
}
ROUNDING_STEPS = 16  # a map whose range is below this many float steps of its largest value is constant

Reduction = Literal["mean", "absmean", "absmax", "l2"]
Score = Literal["logit", "log_odds", "log_probs"]
Mask = Literal["abs_of_mean", "mean_of_abs", "max_of_abs", "l2"]
Deviation = Literal["population", "unbiased"]
MASKS: Mapping[Mask, Reduction] = {"abs_of_mean": "mean", "mean_of_abs": "absmean", "max_of_abs": "absmax", "l2": "l2"}


def input_saliency(
    logits: Tensor,
    images: Tensor,
    labels: Tensor,
    *,
    reduction: Reduction = "mean",
    score: Score = "logit",
    create_graph: bool = False,
) -> Tensor:
    """Differentiate the true class's score with respect to the image, and reduce the channels to a map.

    Args:
        logits: (B,K), computed from ``images``.
        images: (B,3,H,W), requires grad.
        labels: (B,) int64 in [0,K).
        reduction: Reduction over the channels: ``"mean"`` is the signed mean of the published loss, ``"absmax"`` the
            largest absolute value, for feature alignment, ``"absmean"`` the mean of absolute values and ``"l2"`` the
            norm, whose gradient is 0 where it is 0.
        score: Score to differentiate; see :func:`class_score`.
        create_graph: Keep the graph, so that a loss on the saliency can be differentiated.

    Returns:
        (B,H,W) saliency, in logits per unit of pixel intensity.

    Raises:
        ValueError: ``images`` do not require grad, a shape is wrong, or the reduction or the score is unknown.

    Reference:
        Simonyan et al. 2014; Fel et al. 2022 (arXiv 2211.04533), equation 1.

    >>> images = torch.ones(1, 3, 2, 2, requires_grad=True)
    >>> logits = torch.stack([images.sum((1, 2, 3)), -images.sum((1, 2, 3))], 1)
    >>> input_saliency(logits, images, torch.tensor([1]))
    tensor([[[-1., -1.],
             [-1., -1.]]])
    """
    if images.ndim != 4 or logits.ndim != 2 or not (labels.shape == logits.shape[:1] == images.shape[:1]):
        raise ValueError(
            "expected logits (B,K), images (B,C,H,W) and labels (B,), "
            f"got {tuple(logits.shape)}, {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    gradient = input_gradient(class_score(logits, labels, score), images, create_graph=create_graph)
    return reduce_channels(gradient, reduction)


def class_score(logits: Tensor, labels: Tensor, score: Score) -> Tensor:
    """Return each image's score of its true class, (B,).

    ``"logit"`` is the true class's logit, as published. ``"log_odds"`` is log p / (1 - p), which includes the other
    classes and does not saturate as log p does. ``"log_probs"`` is the sum of log p over all classes, independent of
    the true one (Ross et al. 2017).

    >>> logits = torch.tensor([[2.0, 1.0]])
    >>> class_score(logits, torch.tensor([0]), "log_odds")
    tensor([1.])
    """
    if score not in get_args(Score):
        raise ValueError(f"expected a score of {' or '.join(map(repr, get_args(Score)))}, got {score!r}")
    if score == "log_probs":
        return logits.log_softmax(1).sum(1)
    true = labels[:, None]
    if score == "logit":
        return logits.gather(1, true)[:, 0]
    return logits.gather(1, true)[:, 0] - logits.scatter(1, true, -torch.inf).logsumexp(1)


def input_gradient(scores: Tensor, images: Tensor, *, create_graph: bool = False) -> Tensor:
    """Differentiate scores (B,) with respect to the images, (B,C,H,W).

    The sum of the batch's scores is differentiated, which includes the cross-sample terms of BatchNorm in training
    mode, as in the published training.
    """
    if not images.requires_grad:
        raise ValueError("expected images that require grad; call images.requires_grad_() before the model")
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=create_graph)
    return gradient


def reduce_channels(values: Tensor, reduction: Reduction) -> Tensor:
    """Reduce (B,C,H,W) to a map (B,H,W); see :func:`input_saliency`.

    Raises:
        ValueError: The reduction is unknown.

    >>> reduce_channels(torch.tensor([3.0, -4.0]).reshape(1, 2, 1, 1), "l2")
    tensor([[[5.]]])
    """
    check_reduction(reduction)
    if reduction == "mean":
        return values.mean(1)
    if reduction == "absmean":
        return values.abs().mean(1)
    if reduction == "absmax":
        return values.abs().amax(1)
    # The second derivative of torch's norm is NaN at 0. Scaled first: squares underflow.
    scale = values.detach().abs().amax(1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    squares = (values / scale).square().sum(1)
    return torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0) * scale[:, 0]


def check_reduction(reduction: str) -> None:
    """Raise a ValueError for an unknown reduction over the channels."""
    if reduction not in get_args(Reduction):
        raise ValueError(f"expected a reduction of {', '.join(map(repr, get_args(Reduction)))}, got {reduction!r}")


def reductions(names: Reduction | Sequence[Reduction]) -> list[Reduction]:
    """Return the reductions over the channels of a setting that names one or several.

    Raises:
        ValueError: A name is unknown, or there is none.

    >>> reductions("mean"), reductions(["mean", "l2"])
    (['mean'], ['mean', 'l2'])
    """
    found: list[Reduction] = [names] if isinstance(names, str) else list(names)
    for name in found:
        check_reduction(name)
    if not found:
        raise ValueError("expected at least one reduction over the channels, got none")
    return found


def standardize_cut(maps: Tensor, *, std: Deviation = "population") -> Tensor:
    """Standardise each map over its pixels and set values below the mean to 0.

    ``relu((m - mean) / (std + 1e-5))`` with the population standard deviation. A map that is constant up to rounding
    gives zeros and a zero gradient, so that rounding errors are not scaled to a map.

    Args:
        maps: (B,H,W) float.
        std: ``"population"``, or ``"unbiased"`` with 1e-6 in place of 1e-5.

    Returns:
        (B,H,W), >= 0; differentiable, without a stop-gradient on mean or deviation.

    Reference:
        Fel et al. 2022 (arXiv 2211.04533), section 3; epsilon as in the released code.

    >>> standardize_cut(torch.tensor([[[0.0, 2.0]], [[7.0, 7.0]]]))
    tensor([[[0.0000, 1.0000]],
    <BLANKLINE>
            [[0.0000, 0.0000]]])
    """
    if maps.ndim != 3:
        raise ValueError(f"expected maps (B,H,W), got {tuple(maps.shape)}")
    if std not in DEVIATIONS:
        raise ValueError(f"expected std {' or '.join(map(repr, DEVIATIONS))}, got {std!r}")
    correction, epsilon = DEVIATIONS[std]
    centred = maps - maps.mean((1, 2), keepdim=True)
    variance = centred.square().mean((1, 2), keepdim=True)  # (B,1,1)
    if correction:
        pixels = maps.shape[1] * maps.shape[2]
        variance = variance * (pixels / max(pixels - correction, 1))
    with torch.no_grad():
        low, high = maps.amin((1, 2)), maps.amax((1, 2))
        rounding = ROUNDING_STEPS * torch.finfo(maps.dtype).eps * torch.maximum(low.abs(), high.abs())
        flat = (high - low <= rounding)[:, None, None] | (variance == 0)
    # The inner where excludes the root's infinite slope at 0 from the backward pass.
    deviation = torch.where(flat, 1.0, variance).sqrt()
    return torch.where(flat, 0.0, (centred / (deviation + epsilon)).relu())


def attack_map(adversarial: Tensor, images: Tensor, *, mask: Mask = "abs_of_mean") -> Tensor:
    """Reduce a perturbation to one map over its channels.

    Args:
        adversarial: (B,3,H,W) attacked images.
        images: (B,3,H,W) clean images.
        mask: Reduction: ``"abs_of_mean"``, as published, in which opponent colours cancel, ``"mean_of_abs"``,
            ``"max_of_abs"`` or ``"l2"``.

    Returns:
        (B,H,W), >= 0.

    Raises:
        ValueError: The shapes differ or the mask is unknown.

    Reference:
        Linsley et al. 2023 (arXiv 2306.03229), section 3; the absolute value is taken after the mean.

    >>> attack_map(torch.tensor([[[[0.5]], [[0.1]], [[0.0]]]]), torch.zeros(1, 3, 1, 1))
    tensor([[[0.2000]]])
    """
    if adversarial.shape != images.shape or images.ndim != 4:
        raise ValueError(
            f"expected two (B,C,H,W) tensors of one shape, got {tuple(adversarial.shape)} and {tuple(images.shape)}"
        )
    if mask not in MASKS:
        raise ValueError(f"expected a mask of {', '.join(map(repr, MASKS))}, got {mask!r}")
    return reduce_channels(adversarial - images, MASKS[mask]).abs()
