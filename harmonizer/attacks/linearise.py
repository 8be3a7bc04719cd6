"""Sequential linearisation: walk to the point of a decision boundary nearest to the image, within [0,1]."""

import torch
from torch import Tensor

from harmonizer.attacks.engine import Engine
from harmonizer.attacks.l2 import is_usable, largest, norms, per_row, rows_of
from harmonizer.attacks.objectives import margin_to

DAMPING = 0.6  # share of the way to the linearised solution; full steps oscillate between a ReLU network's facets
MEMORY = 0.6  # weight of the earlier gradients, to average over facets; both chosen on benchmark images
OVERSHOOT = 0.01  # relative distance behind the boundary to aim at, to end on its far side
NEWTON_STEPS = 6  # for the multiplier; exact once the set of clipped pixels is right


def nearest_on_plane(images: Tensor, normal: Tensor, level: Tensor) -> Tensor:
    """Solve for the shortest offset d with <normal, d> = level and images + d in [0,1].

    The solution is the normal times a multiplier, clipped to the box; Newton's method finds the multiplier. Where the
    box has no solution, the offset goes as far as the box allows.

    Args:
        images: (n,3,H,W) in [0,1].
        normal: (n,3,H,W), not zero.
        level: (n,).

    Returns:
        (n,3,H,W) offsets.

    >>> nearest_on_plane(torch.tensor([[[[0.5, 0.9]]]]), torch.ones(1, 1, 1, 2), torch.tensor([0.5]))
    tensor([[[[0.4000, 0.1000]]]])
    """
    squared = normal.square()
    total = rows_of(squared).sum(1)
    multiplier = level / total
    for _ in range(NEWTON_STEPS):
        wanted = per_row(multiplier) * normal
        offset = wanted.clamp(-images, 1 - images)
        slope = rows_of((offset == wanted) * squared).sum(1)
        gap = level - rows_of(normal * offset).sum(1)
        free = slope > torch.finfo(total.dtype).eps * total
        multiplier = multiplier + torch.where(free, gap / torch.where(free, slope, 1.0), 0.0)
    return (per_row(multiplier) * normal).clamp(-images, 1 - images)


class Walk:
    """Approach the nearest point where the logit of ``targets`` reaches that of ``labels``; can be resumed.

    Each step linearises the margin (with the gradients of recent steps averaged), solves the linear problem exactly
    within the box, and goes part of the way to the solution.

    Args:
        images: (n,3,H,W) in [0,1].
        labels: (n,) int64.
        targets: (n,) int64, other classes.
        rows: (n,) int64, indices of the images in the call.

    Attributes:
        offset: (n,3,H,W), near the boundary on either side.
        estimate: (n,), the distance; infinite while no gradient was usable.

    Reference:
        Moosavi-Dezfooli et al. 2016 (arXiv 1511.04599) for the linearisation; Croce and Hein 2020 (arXiv
        1907.02044) for its box constraint.
    """

    def __init__(self, images: Tensor, labels: Tensor, targets: Tensor, rows: Tensor) -> None:
        self.offset = torch.zeros_like(images)
        self.estimate = torch.full_like(labels, torch.inf, dtype=images.dtype)
        self._images, self._rows = images, rows
        self._objective = margin_to(labels, targets)
        self._mean = torch.zeros_like(images)
        self._steps = 0

    def go(self, net: Engine, *, steps: int, eps_max: float) -> None:
        """Continue the walk up to ``steps`` passes since the start, and up to ``eps_max`` from the image."""
        for step in range(self._steps, steps if len(self._rows) else 0):
            self._step(net, first=step == 0, eps_max=eps_max)
        self._steps = max(self._steps, steps)

    def _step(self, net: Engine, *, first: bool, eps_max: float) -> None:
        logits, gradient = net.gradient(self._images + self.offset, self._rows, self._objective)
        usable = is_usable(gradient)
        gradient = torch.where(per_row(usable), gradient, 0.0)
        self._mean = gradient if first else MEMORY * self._mean + (1 - MEMORY) * gradient
        scale = largest(self._mean)  # squares of tiny gradients underflow
        usable &= scale > 0
        normal = self._mean / per_row(torch.where(usable, scale, 1.0))
        rise = -self._objective(logits, slice(None)) / torch.where(usable, scale, 1.0)
        level = rows_of(normal * self.offset).sum(1) + rise
        goal = nearest_on_plane(self._images, torch.where(per_row(usable), normal, 1.0), level * (1 + OVERSHOOT))
        reach = norms(goal)
        usable &= reach.isfinite()
        goal = goal * per_row(eps_max / reach.clamp_min(eps_max))
        share = 1.0 if first else DAMPING
        self.offset = torch.where(per_row(usable), self.offset + share * (goal - self.offset), self.offset)
        self.estimate = torch.where(usable, reach, self.estimate)
