"""The targeted minimal-norm search: linearised walks to several wrong classes, then DDN towards the nearest ones."""

import math

import torch
from torch import Tensor

from harmonizer.attacks.l2 import norms, per_row, unit
from harmonizer.attacks.linearise import linearised_walk
from harmonizer.attacks.network import Network
from harmonizer.attacks.noise import Noise
from harmonizer.attacks.objectives import margin_to
from harmonizer.attacks.result import Finding
from harmonizer.attacks.verdict import Best, judge

# Both start large to leave poor basins; still larger steps are chaotic, and rounding then moves single radii by 2 %.
STEP, STEP_END = 2.0, 0.02  # length of a DDN step in radii, relative: large and small radii converge alike
GAMMA, GAMMA_END = 0.1, 0.005  # relative change of the radius in a step
BLIND_TRIES = 8  # random directions for an image without any usable gradient


def ddn(
    net: Network,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    *,
    eps_max: float = 10.0,
    targets: int = 5,
    walk_steps: int = 8,
    refined: int = 2,
    steps: int = 46,
) -> Finding:
    """Find the minimal L2 radius: within one basin DDN converges anyway, what matters is which wrong class.

    Passes an image, at most: 1 + targets x walk_steps + refined x steps, and 7 forwards for the verdict.

    Args:
        net: The frozen model.
        images: (B,3,H,W) in [0,1].
        labels: (B,) int64.
        noise: Directions to try where no gradient is usable.
        eps_max: Largest radius.
        targets: Wrong classes walked to, the most probable first.
        walk_steps: Passes of each walk.
        refined: Classes refined by DDN, the nearest first.
        steps: Passes of each refinement.

    Returns:
        The finding; ``eps`` is the radius.

    Reference:
        Rony et al. 2019 (arXiv 1811.09600), algorithm 1; the choice of class and the walks are ours.
    """
    everything = torch.arange(len(images), device=images.device)
    clean = net.logits(images, everything)
    best = Best(images, labels)
    rows = (clean.argmax(1) == labels).nonzero()[:, 0]
    x, y = images[rows], labels[rows]
    wrong = clean[rows].scatter(1, y[:, None], -torch.inf).topk(min(targets, clean.shape[1] - 1), dim=1).indices
    walks = [linearised_walk(net, x, y, target, rows, steps=walk_steps, eps_max=eps_max) for target in wrong.unbind(1)]
    offsets, distances = torch.stack([walk[0] for walk in walks], 1), torch.stack([walk[1] for walk in walks], 1)
    nearest = distances.topk(min(refined, distances.shape[1]), dim=1, largest=False).indices
    net.report(walk_steps * targets / (walk_steps * targets + refined * steps))
    for choice in nearest.unbind(1):
        start = offsets[torch.arange(len(x), device=x.device), choice]
        target = wrong.gather(1, choice[:, None])[:, 0]
        _refine(net, best, x, y, target, rows, start, steps=steps, eps_max=eps_max)
    had_gradient = torch.zeros_like(labels, dtype=torch.bool)
    had_gradient[rows] = distances.isfinite().any(1)
    lost = rows[~(had_gradient[rows] | best.radius[rows].isfinite())]
    for i in range(BLIND_TRIES if len(lost) else 0):
        direction = eps_max * unit(noise.normal(lost, f"direction/{i}"))[0]
        offset = (images[lost] + direction).clamp(0, 1) - images[lost]
        best.offer(lost, offset, net.logits(images[lost] + offset, lost))
    return judge(net, images, labels, clean, best, had_gradient, eps_max)


def ddn_full(
    net: Network,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    *,
    eps_max: float = 10.0,
    targets: int = 9,
    walk_steps: int = 15,
    refined: int = 4,
    steps: int = 110,
) -> Finding:
    """Search as :func:`ddn` does, with four times its passes: for figures that go to print."""
    return ddn(
        net,
        images,
        labels,
        noise,
        eps_max=eps_max,
        targets=targets,
        walk_steps=walk_steps,
        refined=refined,
        steps=steps,
    )


def _refine(
    net: Network,
    best: Best,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    rows: Tensor,
    offset: Tensor,
    *,
    steps: int,
    eps_max: float,
) -> None:
    """Run DDN from ``offset`` (n,3,H,W) and offer what fools to ``best``."""
    radius = norms(offset)
    objective = margin_to(labels, targets)
    for step in range(steps):
        cosine = (1 + math.cos(math.pi * step / steps)) / 2
        gamma = GAMMA_END + (GAMMA - GAMMA_END) * cosine
        length = STEP_END + (STEP - STEP_END) * cosine
        logits, gradient = net.gradient(images + offset, rows, objective)
        fools = best.offer(rows, offset, logits)
        radius = torch.where(fools, (1 - gamma) * torch.minimum(radius, norms(offset)), (1 + gamma) * radius)
        radius = radius.clamp(max=eps_max)
        moved = offset + per_row(length * radius) * unit(gradient)[0]
        scale = radius / norms(moved).clamp_min(torch.finfo(radius.dtype).tiny)
        offset = (images + per_row(scale) * moved).clamp(0, 1) - images
