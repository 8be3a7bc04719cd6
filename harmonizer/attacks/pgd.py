"""Projected gradient descent in the L2 ball, with the radius of each image bisected: the cheap attack for training."""

import torch
from torch import Tensor

from harmonizer.attacks.engine import Engine
from harmonizer.attacks.finalize import Best, finalize, status_before
from harmonizer.attacks.l2 import in_ball, per_row, rows_of, to_ball, unit
from harmonizer.attacks.noise import Noise
from harmonizer.attacks.objectives import OBJECTIVES, margin_of
from harmonizer.attacks.result import Finding, Status

REACH = 2.5  # total length of the steps, in radii; Madry et al. 2018
FIRST_GUESS = 2.0  # first radius, in units of the linearised distance to the boundary
GROWTH = 4.0  # factor of the radius until it first fools


def pgd(
    net: Engine,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    known: Tensor | None = None,
    *,
    eps_max: float = 10.0,
    steps: int = 7,
    rounds: int = 8,
    restarts: int = 1,
    tolerance: float = 0.05,
    objective: str = "margin",
) -> Finding:
    """Bisect the radius of an L2 PGD attack, image by image.

    The first radius is twice the linearised distance. It grows until it fools or reaches ``eps_max``; then the bracket
    is halved until its relative width is ``tolerance``. An attack stops at the first step that fools, whose norm
    becomes the upper end of the bracket. Passes per image, at most: 1 + rounds x restarts x steps forward, as many
    backward, and 7 forward to finalize.

    Args:
        net: Frozen model.
        images: (B,3,H,W) in [0,1].
        labels: (B,) int64.
        noise: Source of the starting points of the second restart and later.
        known: Radii (B,) at which another attack fooled the model, infinite where it did not. The first radius tried is
            just below, or ``eps_max``; where it does not fool, the search ends. Not a user setting.
        eps_max: Largest radius.
        steps: Steps per attack.
        rounds: Most radii tried.
        restarts: Attacks per radius: the first starts at the image, the others at a random point of the ball.
        tolerance: Relative width of the bracket at which to stop.
        objective: ``"margin"``, or ``"cross_entropy"``, whose gradient vanishes where the model is confident.

    Returns:
        The finding; ``eps`` is the radius.

    Reference:
        Madry et al. 2018 (arXiv 1706.06083), section 2.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"expected an objective among {', '.join(OBJECTIVES)}, got {objective!r}")
    climb = OBJECTIVES[objective](labels)
    everything = torch.arange(len(images), device=images.device)
    clean, gradient = net.start(images, everything, climb)
    uphill, had_gradient = unit(gradient)
    slope = rows_of(uphill * torch.where(per_row(had_gradient), gradient, 0.0)).sum(1)
    # The slope of the cross-entropy is a poor guess of the distance; later rounds correct it.
    distance = -margin_of(labels)(clean, slice(None)) / torch.where(had_gradient, slope, 1.0)
    guess = torch.where(had_gradient & distance.isfinite(), FIRST_GUESS * distance, eps_max).clamp(max=eps_max)
    guess = guess if rounds > 1 else torch.full_like(guess, eps_max)
    if known is not None:
        known = known.to(guess.dtype)
        guess = torch.where(known.isfinite(), (1 - tolerance / 2) * known, eps_max)
    best = Best(images, labels, clean)

    low = torch.zeros_like(guess)
    rows = (status_before(clean, labels) == Status.CENSORED).nonzero()[:, 0]
    for round_ in range(rounds):
        high = (best.radius if known is None else torch.minimum(best.radius, known))[rows]
        found = high.isfinite()
        open_ = torch.where(found, high - low[rows] > tolerance * high, low[rows] < eps_max)
        rows, found, high = rows[open_], found[open_], high[open_]
        if not len(rows):
            break
        last_chance = torch.full_like(guess[rows], eps_max)  # so that censored means: not fooled at eps_max
        grown = torch.minimum(GROWTH * low[rows], last_chance) if round_ < rounds // 2 else last_chance
        radius = guess[rows] if round_ == 0 else torch.where(found, (low[rows] + high) / 2, grown)
        fooled = torch.zeros_like(found)
        for restart in range(restarts):
            left = (~fooled).nonzero()[:, 0]
            if not len(left):
                break
            part = rows[left]
            start = torch.zeros_like(images[part])
            if restart:
                start = per_row(radius[left]) * in_ball(noise.normal(part, f"pgd/{round_}/{restart}"))
            step = uphill[part] if restart == 0 else None
            hit, usable = _attack(net, best, images, labels, part, start, step, radius[left], steps, objective)
            fooled[left] = hit
            had_gradient[part] |= usable
        low[rows] = torch.where(fooled, low[rows], radius)
        net.report((round_ + 1) / rounds)
    return finalize(net, images, labels, clean, [best], had_gradient, eps_max)


def _attack(
    net: Engine,
    best: Best,
    images: Tensor,
    labels: Tensor,
    rows: Tensor,
    offset: Tensor,
    direction: Tensor | None,
    radius: Tensor,
    steps: int,
    objective: str,
) -> tuple[Tensor, Tensor]:
    """Attack ``rows`` (n,) at ``radius`` (n,) from ``offset``; return which are fooled and had a gradient, (n,)."""
    fooled, usable = torch.zeros_like(rows, dtype=torch.bool), torch.zeros_like(rows, dtype=torch.bool)
    at = torch.arange(len(rows), device=rows.device)  # the rows still attacked
    for step in range(steps + 1):
        if step or direction is None:
            x = images[rows[at]]
            if step < steps:
                logits, gradient = net.gradient(x + offset, rows[at], OBJECTIVES[objective](labels[rows[at]]))
                direction, moves = unit(gradient)
                usable[at] |= moves
            else:
                logits, direction = net.logits(x + offset, rows[at]), torch.zeros_like(offset)
            hit = best.offer(rows[at], offset, logits)
            fooled[at[hit]] = True
            at, offset, direction = at[~hit], offset[~hit], direction[~hit]
        if not len(at) or step == steps:
            break
        offset = offset + per_row(REACH / steps * radius[at]) * direction
        offset = to_ball(images[rows[at]], offset, radius[at])
    return fooled, usable
