"""Robust accuracy at fixed budgets: points of the survival curve."""

from numpy.typing import ArrayLike

from harmonizer.statistics.bootstrap import Summary
from harmonizer.statistics.status import Status
from harmonizer.statistics.summaries import as_attacked, proportion

# L2 radii in [0,1] pixel units; the choice is ours. A pretrained EfficientNet-Lite0 has a median radius near 0.08;
# RobustBench compares robust networks at 0.5 and above.
BUDGETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
BOUND = "upper bound on robust accuracy: share of the images that our own attack did not fool within the budget"


def robust_accuracy(status: ArrayLike, radius: ArrayLike, *, eps_max: float) -> list[Summary]:
    """Estimate the share of images that stay correct under perturbations up to each L2 budget.

    This is an **upper bound**: a stronger attack may fool more images. An image fooled at a radius equal to the budget
    counts as fooled; an image misclassified before the attack counts as fooled at every budget; failed images are
    skipped and counted.

    Args:
        status: (N,) codes, indices of :data:`harmonizer.statistics.STATUSES`.
        radius: (N,) minimal radii; only those of found images are read.
        eps_max: Largest radius that the attack searched.

    Returns:
        One object for each of :data:`BUDGETS` up to ``eps_max``: ``eps``; ``value``, ``se``, ``low``, ``high``, ``n``
        as from :func:`proportion`; ``n_failed``.

    Raises:
        ValueError: Shapes differ, a status is unknown, or a found radius is not finite.

    Reference:
        Robust accuracy as in Croce et al. 2021 (RobustBench, arXiv 2010.09670), with the radii of this attack.

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
