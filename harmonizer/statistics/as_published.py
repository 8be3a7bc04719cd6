"""The average of the 2023 figures: never-fooled images are dropped or counted, and NaN images count as fooled."""

import numpy as np
from numpy.typing import ArrayLike

from harmonizer.statistics.bootstrap import Summary, as_vector, without
from harmonizer.statistics.status import Status
from harmonizer.statistics.summaries import as_attacked, mean_summary

AS_PUBLISHED = "linsley2023_as_published"  # the only attack whose results show this average
NAN_EPS = 0.001 + 0.999 / 2**7  # 0.0088: end of the published bisection of [0.001,1] when every eps "fools"
NAN_ANSWER = 0  # argmax of a vector of NaN
NEVER_FOOLED_EPS = 10.0


def as_published_summary(
    status: ArrayLike, radius: ArrayLike, labels: ArrayLike, *, never_fooled: str, seed: int = 0
) -> Summary:
    """Average radii as in the published figures.

    A zero gradient (``failed`` here) produced a NaN image, which the model classified as class 0. The image counted as
    fooled at the smallest eps, 0.0088, or as never fooled where 0 is the true class.

    Args:
        status: (N,) codes, indices of :data:`harmonizer.statistics.STATUSES`.
        radius: (N,) radii; only those of found images are read.
        labels: (N,) true classes.
        never_fooled: ``"dropped"`` skips such images, ``"counted"`` counts them at 10.
        seed: Bootstrap seed.

    Returns:
        ``mean``, ``se``, ``low``, ``high``, ``n`` as from :func:`mean_summary`; ``never_fooled``, ``n_never_fooled``;
        ``n_nan_fooled``, the number of NaN images in the mean, each counted at ``nan_eps``.

    Raises:
        ValueError: Shapes differ, a status or the setting is unknown, or a found radius is not finite.

    Reference:
        Linsley et al. 2023 (arXiv 2306.03229), code.

    >>> s = as_published_summary([2, 3, 1], [2.0, 0, 0], [5, 5, 5], never_fooled="counted")
    >>> round(s["mean"], 4), s["n"], s["n_nan_fooled"]
    (4.0029, 3, 1)
    """
    status, radius = as_attacked(status, radius)
    labels = as_vector("labels", labels)
    if labels.shape != status.shape:
        raise ValueError(f"expected one label per image, got {len(labels)} for {len(status)} images")
    if never_fooled not in ("dropped", "counted"):
        raise ValueError(f"expected never_fooled 'dropped' or 'counted', got {never_fooled!r}")
    nan_fooled = (status == Status.FAILED) & (labels != NAN_ANSWER)
    never = (status == Status.CENSORED) | ((status == Status.FAILED) & ~nan_fooled)
    values = np.where(status == Status.FOUND, radius, np.where(nan_fooled, NAN_EPS, NEVER_FOOLED_EPS))
    kept = (status == Status.FOUND) | nan_fooled | (never & (never_fooled == "counted"))
    return without(mean_summary(values[kept], seed=seed), "n_undefined") | {
        "never_fooled": never_fooled,
        "n_never_fooled": int(never.sum()),
        "n_nan_fooled": int(nan_fooled.sum()),
        "nan_eps": NAN_EPS,
    }
