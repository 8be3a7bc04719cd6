"""Adversarial training: images attacked within an L2 ball, with passes shared with the harmonizer's saliency.

The attack ascends -log p / (1 - p). Its gradient equals the cross-entropy's up to a factor per image, and does not
vanish where the model is confident. The attack runs on the function that is trained: the model is in training mode, and
batch normalisation takes the statistics of the attacked batch. Only the passes of the loss update the running
statistics, not those of the attack (:func:`running_statistics_kept`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonizer.attacks.l2 import in_ball, to_ball, unit
from harmonizer.attacks.noise import Noise
from harmonizer.data.batch import Batch
from harmonizer.functional.saliency import Score, input_gradient
from harmonizer.models import PixelModel
from harmonizer.training.double_backward import batch_score, chosen, logits_and_gradient, splits, takes_batch_statistics
from harmonizer.training.precision import promoted
from harmonizer.training.settings import LossSettings

TRADES_START = 0.1  # L2 length of its random start, in radii; at the image itself the divergence has no gradient

Forward = Callable[[Tensor], Tensor]
Objective = Callable[[Tensor], Tensor]
"""Maps logits (B,K) to the values (B,) to ascend."""


class Passes(NamedTuple):
    """Results of the passes that the loss of a batch needs."""

    logits: Tensor  # (B,K) for the cross-entropy: at the adversarial images, with TRADES at the clean ones
    # (B,3,H,W) with a graph, at the clean or the adversarial images; None without the harmonizer loss
    gradient: Tensor | None = None
    attacked: Tensor | None = None  # (B,K) logits at the adversarial images with TRADES, otherwise None


def perturb(
    forward: Forward,
    images: Tensor,
    objective: Objective,
    *,
    eps: float,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
    first: Tensor | None = None,
) -> Tensor:
    """Ascend an objective within an L2 ball around each image and within [0,1].

    Args:
        forward: Maps images (B,3,H,W) in [0,1] to logits (B,K).
        images: (B,3,H,W).
        objective: Maps logits (B,K) to the values (B,) to ascend.
        eps: Radius of the ball, above 0.
        steps: Gradient steps.
        step_size: L2 length of a step, in units of ``eps``.
        start: (B,3,H,W) offset to start from; None starts at the images.
        first: (B,3,H,W) gradient at the start, if known, to save a pass.

    Returns:
        (B,3,H,W) adversarial images, without a graph.

    Reference:
        Madry et al. 2018 (arXiv 1706.06083), section 2.1.
    """
    radius = images.new_full(images.shape[:1], eps)
    offset = torch.zeros_like(images) if start is None else start
    for step in range(steps):
        gradient = first if step == 0 and first is not None else ascent(forward, images + offset, objective)
        offset = to_ball(images, offset + step_size * eps * unit(gradient)[0], radius)
    return (images + offset).clamp(0, 1)


def ascent(forward: Forward, images: Tensor, objective: Objective) -> Tensor:
    """Return the gradient (B,3,H,W) of the objective with respect to the images, and compute no parameter's."""
    leaf = images.detach().requires_grad_()
    return input_gradient(objective(promoted(forward(leaf))), leaf)


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Keep batch normalisation from updating its running statistics in training mode.

    >>> layer = nn.BatchNorm2d(3)
    >>> with running_statistics_kept(layer):
    ...     outputs = layer(torch.rand(2, 3, 4, 4))
    >>> bool(outputs.mean().abs() < 1e-6), layer.running_mean.tolist(), int(layer.num_batches_tracked)
    (True, [0.0, 0.0, 0.0], 0)
    """
    still: dict[str, Any] = {"track_running_stats": False, "momentum": 0.0}  # the second for layers without the first
    changed = []
    for layer in filter(takes_batch_statistics, model.modules()):
        name = next(name for name in still if hasattr(layer, name))
        changed.append((layer, name, getattr(layer, name)))
    try:
        for layer, name, _ in changed:
            setattr(layer, name, still[name])
        yield
    finally:
        for layer, name, before in changed:
            setattr(layer, name, before)


def training_passes(
    model: PixelModel, batch: Batch, settings: LossSettings, *, eps: float, saliency: bool, joint: bool, noise: Noise
) -> Passes:
    """Attack a batch, and run the model for its loss.

    With the saliency at the clean image, PGD takes its first direction from the same forward pass; with
    ``saliency_of="log_odds"`` the direction is the saliency's own gradient.

    Args:
        model: Model in training mode.
        batch: B samples.
        settings: Kind of attack, its steps, and where the saliency is taken.
        eps: Radius of the ball at this step; 0 trains on the clean images.
        saliency: Return a gradient.
        joint: See :func:`harmonizer.training.double_backward.logits_and_gradient`.
        noise: Random numbers of this step, from one generator per image.

    Reference:
        Madry et al. 2018 (arXiv 1706.06083); Zhang et al. 2019 (TRADES, arXiv 1901.08573); Wong et al. 2020 (fast,
        arXiv 2001.03994).
    """
    if settings.adversarial == "none" or not eps:
        return Passes(*_run(model, batch, settings=settings, saliency=saliency, joint=joint))
    run = partial(_run, model, settings=settings, joint=joint)
    at_clean = saliency and settings.saliency_at == "clean"
    steps, step_size = settings.attack_steps, settings.attack_step_size
    forward, images, rows = partial(model, attacked=True), batch.images.detach(), torch.arange(len(batch.images))
    logits, gradient, start, first = None, None, None, None
    objective: Objective = partial(_misclassification, batch=batch)
    if settings.adversarial == "trades":
        logits, gradient = run(batch, saliency=at_clean)
        objective = partial(_divergence, goal=promoted(logits.detach()).log_softmax(1))
        start = TRADES_START * eps * unit(noise.normal(rows, "trades"))[0]
    elif settings.adversarial == "fast":
        start = eps * in_ball(noise.normal(rows, "fast"))
        gradient = run(batch, saliency=True)[1] if at_clean else None
    elif at_clean:
        gradient, first = _saliency_and_direction(model, batch, settings.saliency_of, joint=joint)
    with running_statistics_kept(model):
        moved = perturb(forward, images, objective, eps=eps, steps=steps, step_size=step_size, start=start, first=first)
    attacked, other = run(batch._replace(images=moved), saliency=saliency and not at_clean)
    gradient = gradient if other is None else other
    return Passes(attacked, gradient) if logits is None else Passes(logits, gradient, attacked)


def _run(
    model: PixelModel, batch: Batch, *, settings: LossSettings, saliency: bool, joint: bool
) -> tuple[Tensor, Tensor | None]:
    if saliency:
        return logits_and_gradient(model, batch, joint=joint, score=settings.saliency_of)
    return model(batch.images), None


def _saliency_and_direction(model: PixelModel, batch: Batch, score: Score, *, joint: bool) -> tuple[Tensor, Tensor]:
    """Return the saliency's gradient with a graph, and the attack's first direction, both (B,3,H,W)."""
    mapped = batch.has_map
    joint = joint or not splits(model, mapped)
    part = batch if joint else chosen(batch, mapped)
    logits, gradient = logits_and_gradient(model, part, joint=True, score=score)
    if score == "log_odds":
        first = -gradient.detach()
    else:  # with create_graph, layers of the second-order mode compute no parameter's gradient
        first = input_gradient(_misclassification(logits, part), part.images, create_graph=True).detach()
    if joint:
        return gradient, first
    rest = chosen(batch, ~mapped)
    with running_statistics_kept(model):
        others = ascent(partial(model, attacked=True), rest.images, partial(_misclassification, batch=rest))
    place = torch.argsort(torch.argsort(mapped.logical_not().long(), stable=True))
    return torch.cat([gradient, torch.zeros_like(others)])[place], torch.cat([first, others])[place]


def _misclassification(logits: Tensor, batch: Batch) -> Tensor:
    return -batch_score(promoted(logits), batch, "log_odds")


def _divergence(logits: Tensor, goal: Tensor) -> Tensor:
    return F.kl_div(logits.log_softmax(1), goal, reduction="none", log_target=True).sum(1)
