"""The attack of the 2023 paper: three projected steps on the sphere, and a bisection of its radius."""

from collections.abc import Callable

import torch
from torch import Tensor

from harmonizer.attacks.engine import Engine
from harmonizer.attacks.finalize import fail_unanswered, fooled, is_constant, status_before
from harmonizer.attacks.l2 import to_sphere, unit
from harmonizer.attacks.noise import Noise
from harmonizer.attacks.objectives import cross_entropy_of
from harmonizer.attacks.result import Finding, Status

STEPS = 3
STEP_LENGTH = 0.5  # in pixel units
EPS_MAX = 10.0
EPS_SPLIT = 1.0  # where it fools, bisect finely below it; otherwise coarsely above it
EPS_MIN = 0.001
FINE, COARSE = 0.01, 0.1  # bracket widths at which the two bisections stop

Placement = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps the images and the images after a gradient step, both (n,3,H,W), and the radius (n,) to the step's end.

It may overwrite its second argument.
"""


def linsley2023(net: Engine, images: Tensor, labels: Tensor, noise: Noise) -> Finding:
    """Bisect the radius of a three-step attack that projects onto the sphere, as the 2023 notebook did.

    The attacks at different radii share the clean forward and the gradient at the image, and unfinished images of any
    radius share batches. Passes per image: 28 forward and 19 backward when found, 4 and 3 when censored, 1 and 1 when
    wrong.

    Args:
        net: Frozen model.
        images: (B,3,H,W) in [0,1].
        labels: (B,) int64.
        noise: Unused: the protocol starts at the image.

    Returns:
        The finding; ``eps`` is the smallest radius that fooled the model among those tried.

    Reference:
        Linsley et al. 2023 (arXiv 2306.03229), section 3, as corrected by its authors on 28 June 2023.
    """
    return bisect(net, images, labels, to_sphere)


def bisect(net: Engine, images: Tensor, labels: Tensor, place: Placement) -> Finding:
    """Bisect as :func:`linsley2023` does, with ``place`` in place of the projection."""
    everything = torch.arange(len(images), device=images.device)
    clean_logits, gradient = net.start(images, everything, cross_entropy_of(labels))
    first_step, usable = unit(gradient)
    prediction = clean_logits.argmax(1)
    status = status_before(clean_logits, labels)
    blocked = ((status == Status.CENSORED) & ~usable).nonzero()[:, 0]
    if len(blocked):
        constant = is_constant(net, images[blocked], clean_logits[blocked], blocked)
        status[blocked] = torch.where(constant, int(Status.CENSORED), int(Status.FAILED))

    adversarial = images.clone()
    eps = torch.full(labels.shape, EPS_MAX, dtype=torch.float64, device=images.device)  # the next radius to try
    best = torch.full_like(eps, torch.nan)
    low, high = torch.full_like(eps, EPS_SPLIT), torch.full_like(eps, EPS_MAX)  # bracket; coarse until EPS_SPLIT fools
    active = ((status == Status.CENSORED) & usable).nonzero()[:, 0]
    while len(active):
        radius = eps[active]
        everyone = len(active) == len(images)  # the usual case, which needs no copies
        some = (images, labels, first_step) if everyone else (images[active], labels[active], first_step[active])
        moved, logits = _attack(net, place, *some, radius, active)
        fools = fooled(logits, labels[active])
        hits = active[fools]
        adversarial[hits], best[hits], prediction[hits] = moved[fools], radius[fools], logits[fools].argmax(1)
        status[hits] = int(Status.FOUND)

        high[active] = torch.where(fools, radius, high[active])
        low[active] = torch.where(fools, low[active], radius)
        low[active] = torch.where(fools & (radius == EPS_SPLIT), EPS_MIN, low[active])
        width = torch.where(high[active] <= EPS_SPLIT, FINE, COARSE)
        first = radius == EPS_MAX
        eps[active] = torch.where(first, EPS_SPLIT, (low[active] + high[active]) / 2)
        active = active[torch.where(first, fools, high[active] - low[active] > width)]
        net.report(1 - len(active) / len(images))
    fail_unanswered(net, status)
    return Finding(status, best, prediction, adversarial, EPS_MAX)


def _attack(
    net: Engine,
    place: Placement,
    images: Tensor,
    labels: Tensor,
    first_step: Tensor,
    radius: Tensor,
    rows: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the attacked images (n,3,H,W) at ``radius`` (n,), and the model's logits (n,K)."""
    radius = radius.to(images.dtype)
    step = first_step
    moved = images
    for i in range(STEPS):
        if i:
            step, _ = unit(net.gradient(moved, rows, cross_entropy_of(labels))[1])
        moved = place(images, moved.add(step, alpha=STEP_LENGTH), radius)
    return moved, net.logits(moved, rows)
