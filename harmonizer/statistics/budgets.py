"""Robust accuracy at fixed budgets, read off the survival curve."""

from numpy.typing import ArrayLike

from harmonizer.statistics.bootstrap import Summary
from harmonizer.statistics.status import Status
from harmonizer.statistics.summaries import as_attacked, proportion

# L2 radii in [0,1] pixel units; the choice is ours. A pretrained EfficientNet-Lite0 has a median radius near 0.08;
# robust networks are compared at 0.5 and above (RobustBench).
BUDGETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
BOUND = "upper bound on robust accuracy: share of the images that our own attack did not fool within the budget"


def robust_accuracy(status: ArrayLike, radius: ArrayLike, *, eps_max: float) -> list[Summary]:
    """Estimate which share of the images stays correct under perturbations up to each L2 budget.

    An **upper bound**: a stronger attack may fool more. An image fooled at a radius equal to the budget counts as
    fooled; one that was wrong before the attack counts as fooled at any; failed images are left out and counted.

    Args:
        status: (N,) codes, indices of :data:`harmonizer.statistics.STATUSES`.
        radius: (N,) minimal radii; read for found images only.
        eps_max: Largest radius that the attack searched: nothing is known beyond it.

    Returns:
        One object for each of :data:`BUDGETS` up to ``eps_max``: ``eps``, and ``value``, ``se``, ``low``, ``high``,
        ``n`` as :func:`proportion`; ``n_failed``.

    Raises:
        ValueError: Shapes differ, a status is unknown, or a found radius is not finite.

    Reference:
        Robust accuracy as Croce et al. 2021 (RobustBench, arXiv 2010.09670), at the radii of the attack at hand.

    >>> [share["value"] for share in robust_accuracy([0, 1, 2, 2], [0, 0, 1.0, 2.5], eps_max=10)]
    [0.75, 0.75, 0.75, 0.75, 0.5, 0.5, 0.25]
    """
    status, radius = as_attacked(status, radius)
    counted = status != Status.FAILED
    shares = []
    for eps in BUDGETS:
        if eps <= eps_max:
            correct = (status == Status.CENSORED) | ((status == Status.FOUND) & (radius > eps))
            share = proportion(int(correct.sum()), int(counted.sum()))
            shares.append({"eps": float(eps), **share, "n_failed": int((~counted).sum())})
    return shares
