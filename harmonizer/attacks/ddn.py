"""The targeted minimal-norm search: linearised walks to several wrong classes, then DDN towards the nearest ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harmonizer.attacks.engine import Engine
from harmonizer.attacks.finalize import Best, finalize, status_before
from harmonizer.attacks.l2 import norms, per_row, unit
from harmonizer.attacks.linearise import Walk
from harmonizer.attacks.noise import Noise
from harmonizer.attacks.objectives import margin_to
from harmonizer.attacks.result import Finding, Status

# Both start large to leave poor basins. With still larger steps, rounding moves single radii by 2 %.
STEP, STEP_END = 2.0, 0.02  # length of a DDN step in radii, so that large and small radii converge alike
GAMMA, GAMMA_END = 0.1, 0.005  # relative change of the radius per step
START = 0.01  # first radius of a refinement that has none, in eps_max; the steps can change it by a factor of 80
BLIND_TRIES = 8  # random directions tried for an image without a usable gradient


@dataclass(frozen=True)
class Budget:
    """Search budget: wrong classes walked to, passes per walk, classes refined, passes per refinement."""

    targets: int = 5
    walk_steps: int = 8
    refined: int = 2
    steps: int = 46


def ddn(
    net: Engine,
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
    """Find the minimal L2 radius by DDN towards the nearest wrong classes.

    Within one basin DDN converges; the result depends on the choice of the wrong class. Passes per image, at most:
    1 + targets x walk_steps + refined x steps, and 7 forwards to finalize.

    Args:
        net: Frozen model.
        images: (B,3,H,W) in [0,1].
        labels: (B,) int64.
        noise: Source of the directions to try where no gradient is usable.
        eps_max: Largest radius.
        targets: Wrong classes walked to, the most probable first.
        walk_steps: Passes per walk.
        refined: Classes refined by DDN, the nearest first.
        steps: Passes per refinement.

    Returns:
        The finding; ``eps`` is the radius.

    Reference:
        Rony et al. 2019 (arXiv 1811.09600), algorithm 1; the choice of classes and the walks are new here.
    """
    return _search(net, images, labels, noise, [Budget(targets, walk_steps, refined, steps)], eps_max)


def ddn_full(
    net: Engine,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    *,
    eps_max: float = 10.0,
    targets: int = 9,
    walk_steps: int = 15,
    refined: int = 3,
    steps: int = 110,
) -> Finding:
    """Search as :func:`ddn` does, then continue with more passes: for figures in publications.

    The search includes all candidates of :func:`ddn` with its defaults, so that no radius is larger than there. Passes
    per image, at most: those of :func:`ddn`, the extension of its walks, the other walks, refined x steps, and 7
    forwards.
    """
    return _search(net, images, labels, noise, [Budget(), Budget(targets, walk_steps, refined, steps)], eps_max)


def _search(
    net: Engine, images: Tensor, labels: Tensor, noise: Noise, budgets: Sequence[Budget], eps_max: float
) -> Finding:
    """Search with each budget in turn and return each image's best; each budget resumes the walks of the one before."""
    everything = torch.arange(len(images), device=images.device)
    clean = net.logits(images, everything)
    rows = (status_before(clean, labels) == Status.CENSORED).nonzero()[:, 0]
    x, y = images[rows], labels[rows]
    others = clean[rows].scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :-1]
    bests = [Best(images, labels, clean) for _ in budgets]
    walks: list[Walk] = []
    done, total = 0, sum(budget.targets * budget.walk_steps + budget.refined * budget.steps for budget in budgets)
    for budget, best in zip(budgets, bests, strict=True):
        walks += [Walk(x, y, target, rows) for target in others[:, len(walks) : budget.targets].unbind(1)]
        for walk in walks:
            walk.go(net, steps=budget.walk_steps, eps_max=eps_max)
        done += budget.targets * budget.walk_steps
        net.report(done / total)
        distances = torch.stack([walk.estimate for walk in walks], 1)
        offsets = torch.stack([walk.offset for walk in walks], 1)
        for choice in distances.topk(min(budget.refined, len(walks)), dim=1, largest=False).indices.unbind(1):
            start = offsets[torch.arange(len(x), device=x.device), choice]
            target = others.gather(1, choice[:, None])[:, 0]
            _refine(net, best, x, y, target, rows, start, steps=budget.steps, eps_max=eps_max)
        done += budget.refined * budget.steps
    had_gradient = torch.zeros_like(labels, dtype=torch.bool)
    had_gradient[rows] = torch.stack([walk.estimate for walk in walks], 1).isfinite().any(1)
    lost = rows[~(had_gradient[rows] | best.radius[rows].isfinite())]
    for i in range(BLIND_TRIES if len(lost) else 0):
        direction = eps_max * unit(noise.normal(lost, f"direction/{i}"))[0]
        offset = (images[lost] + direction).clamp(0, 1) - images[lost]
        best.offer(lost, offset, net.logits(images[lost] + offset, lost))
    return finalize(net, images, labels, clean, bests, had_gradient, eps_max)


def _refine(
    net: Engine,
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
    """Run DDN from ``offset`` (n,3,H,W) and offer each perturbation that fools to ``best``."""
    if not len(rows):
        return
    radius = norms(offset)
    radius = torch.where(radius > 0, radius, START * eps_max)  # tied logits: the walk did not move
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
        reach = norms(moved)
        scale = radius / torch.where(reach > torch.finfo(reach.dtype).tiny, reach, 1.0)
        offset = (images + per_row(scale) * moved).clamp(0, 1) - images
