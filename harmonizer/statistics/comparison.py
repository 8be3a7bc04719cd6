"""Comparisons: two models on the same images, and two scores over the same models."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harmonizer.statistics.bootstrap import Array, Summary, as_vector, bootstrap, interval, without
from harmonizer.statistics.summaries import CENSORED, FOUND, as_attacked, mean_summary


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Summary:
    """Compare two models on the same images: the mean of ``b - a``.

    ``p`` is the two-sided Wilcoxon signed-rank test's, zero differences left out; 1 when every difference is zero.

    Args:
        a: (N,) one value an image; a pair with NaN on either side is left out.
        b: (N,) the other model's values for the same images.
        resamples: Of the bootstrap over pairs.
        seed: Of the bootstrap.
        confidence: Of the interval.

    Returns:
        ``mean``, ``se``, ``low``, ``high``, ``n`` (pairs), ``p``.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Wilcoxon 1945.

    >>> paired_difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])["mean"]
    1.0
    """
    a, b = as_vector("a", a), as_vector("b", b)
    if a.shape != b.shape:
        raise ValueError(f"expected one value an image for both models, got {len(a)} and {len(b)}")
    difference = (b - a)[~np.isnan(a) & ~np.isnan(b)]
    summary = mean_summary(difference, resamples=resamples, seed=seed, confidence=confidence)
    changed = difference[difference != 0]
    p = float(stats.wilcoxon(changed).pvalue) if len(changed) else 1.0
    return without(summary, "n_undefined") | {"p": p if len(difference) else np.nan}


def paired_tolerance(status: ArrayLike, radius: ArrayLike, *, eps_max: float) -> Array:
    """Give each image the value that pairs of models are compared by: ``min(r, eps_max)``.

    A censored image has ``eps_max``; one that was wrong or failed has NaN, so that :func:`paired_difference` keeps the
    images that both models got right.

    >>> paired_tolerance([0, 1, 2], [0, 0, 3.0], eps_max=10)
    array([nan, 10.,  3.])
    """
    status, radius = as_attacked(status, radius)
    limited = np.where(status == FOUND, np.minimum(np.where(status == FOUND, radius, 0), eps_max), np.nan)
    return np.where(status == CENSORED, eps_max, limited)


def pair_keys(a: Sequence[str] | NDArray[np.str_], b: Sequence[str] | NDArray[np.str_]) -> tuple[Any, Any]:
    """Find the images that two models share: indices into ``a`` and into ``b``, in the order of the sorted keys.

    Raises:
        ValueError: A key comes twice on one side: two images would be taken for one.

    >>> pair_keys(["x", "y"], ["y", "z", "x"])
    (array([0, 1]), array([2, 0]))
    """
    for keys in (np.asarray(a, str), np.asarray(b, str)):
        names, counts = np.unique(keys, return_counts=True)
        if len(names) < len(keys):
            raise ValueError(f"expected every key once, got {str(names[counts > 1][0])!r} more than once")
    _, first, second = np.intersect1d(np.asarray(a, str), np.asarray(b, str), return_indices=True)
    return first, second


def rank_correlation(
    x: ArrayLike, y: ArrayLike, *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Summary:
    """Correlate the ranks of two scores over models; ties get average ranks.

    Args:
        x: (N,) one score a model; a pair with NaN on either side is left out.
        y: (N,) the other score of the same models.
        resamples: Of the bootstrap over models.
        seed: Of the bootstrap.
        confidence: Of the interval.

    Returns:
        ``rho``, its two-sided ``p`` (t distribution), ``n``, ``low``, ``high``; NaN for fewer than three models or a
        constant score.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Spearman 1904.

    >>> rank_correlation([1, 2, 3], [10, 40, 30])["rho"]
    0.5
    """
    x, y = as_vector("x", x), as_vector("y", y)
    if x.shape != y.shape:
        raise ValueError(f"expected two scores a model, got {len(x)} and {len(y)}")
    defined = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[defined], y[defined]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return {"rho": np.nan, "p": np.nan, "n": len(x), "low": np.nan, "high": np.nan}
    result = stats.spearmanr(x, y)
    drawn = bootstrap(lambda index: _rank_correlations(x[index], y[index]), len(x), resamples, seed)
    low, high = interval(drawn, confidence)
    return {"rho": float(result.statistic), "p": float(result.pvalue), "n": len(x), "low": low, "high": high}


def _rank_correlations(x: Array, y: Array) -> Array:
    """Correlate the ranks of each row pair (R,n); NaN where a row is constant."""
    a, b = (rank - rank.mean(1, keepdims=True) for rank in (stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)))
    spread = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.where(spread > 0, (a * b).sum(1) / np.where(spread > 0, spread, 1), np.nan)
