"""Comparisons of two models on the same images, and of two scores over the same models."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations, product
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harmonizer.statistics.bootstrap import Array, Summary, as_vector, bootstrap, interval, without
from harmonizer.statistics.status import Status
from harmonizer.statistics.summaries import as_attacked, mean_summary

FEWEST_RANKED = 4  # fewest models for a rank correlation
MOST_ORDERED = 9  # most models for an exact p value: 9! = 362,880 orders
MOST_SIGNED = 13  # most differences for an exact p value, over 2^13 signs: SciPy's limit for tied differences


def paired_difference(a: ArrayLike, b: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Summary:
    """Compare two models on the same images: the mean of ``b - a``.

    ``p`` is that of the two-sided Wilcoxon signed-rank test without zero differences; it is 1 when every difference is
    zero. It is exact up to 13 differences, over all their signs; with fewer than 6 it cannot be below 0.05.

    Args:
        a: (N,) one value per image; a pair with NaN on either side is skipped.
        b: (N,) the other model's values for the same images.
        resamples: Number of bootstrap resamples of the pairs.
        seed: Bootstrap seed.

    Returns:
        ``mean``, ``se``, ``low``, ``high``, ``n`` (pairs), ``p``; the interval is NaN below ten pairs.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Wilcoxon 1945.

    >>> paired_difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])["mean"]
    1.0
    """
    a, b = as_vector("a", a), as_vector("b", b)
    if a.shape != b.shape:
        raise ValueError(f"expected one value per image for both models, got {len(a)} and {len(b)}")
    difference = (b - a)[~np.isnan(a) & ~np.isnan(b)]
    summary = mean_summary(difference, resamples=resamples, seed=seed)
    changed = difference[difference != 0]
    return without(summary, "n_undefined") | {"p": _signed_rank_p(changed) if len(difference) else np.nan}


def paired_tolerance(status: ArrayLike, radius: ArrayLike, *, eps_max: float) -> Array:
    """Return the tolerance of each image for a paired comparison: ``min(r, eps_max)``.

    A censored image has ``eps_max``; a wrong or failed one has NaN, so that :func:`paired_difference` skips it.

    >>> paired_tolerance([0, 1, 2], [0, 0, 3.0], eps_max=10)
    array([nan, 10.,  3.])
    """
    status, radius = as_attacked(status, radius)
    limited = np.minimum(radius, eps_max)
    return np.select([status == Status.CENSORED, status == Status.FOUND], [eps_max, limited], np.nan)


def pair_keys(a: Sequence[str] | NDArray[np.str_], b: Sequence[str] | NDArray[np.str_]) -> tuple[Any, Any]:
    """Return the images that two models share, as indices into ``a`` and ``b`` in the order of the sorted keys.

    Raises:
        ValueError: A key occurs twice on one side.

    >>> pair_keys(["x", "y"], ["y", "z", "x"])
    (array([0, 1]), array([2, 0]))
    """
    for keys in (np.asarray(a, str), np.asarray(b, str)):
        names, counts = np.unique(keys, return_counts=True)
        if len(names) < len(keys):
            raise ValueError(f"expected every key once, got {str(names[counts > 1][0])!r} more than once")
    _, first, second = np.intersect1d(np.asarray(a, str), np.asarray(b, str), return_indices=True)
    return first, second


def rank_correlation(x: ArrayLike, y: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> Summary:
    """Correlate the ranks of two scores over models; ties get average ranks.

    Args:
        x: (N,) one score per model; a pair with NaN on either side is skipped.
        y: (N,) the other score of the same models.
        resamples: Number of bootstrap resamples of the models.
        seed: Bootstrap seed.

    Returns:
        ``rho``, its two-sided ``p``, ``n``, ``low``, ``high``. ``rho`` and ``p`` are NaN for fewer than four models or
        a constant score: three models have the same order by chance in one case of three. ``p`` is exact up to nine
        models, over all their orders; for more it comes from the t distribution, but is never below the 2 / n! of a
        perfect order. The interval is NaN for fewer than ten models, and where all resamples agree, as with a perfect
        order.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Spearman 1904.

    >>> found = rank_correlation([1, 2, 3, 4], [10, 20, 30, 40])
    >>> found["rho"], round(found["p"], 4)  # 2 of 24 orders
    (1.0, 0.0833)
    """
    x, y = as_vector("x", x), as_vector("y", y)
    if x.shape != y.shape:
        raise ValueError(f"expected two scores per model, got {len(x)} and {len(y)}")
    defined = ~np.isnan(x) & ~np.isnan(y)
    x, y = x[defined], y[defined]
    n = len(x)
    if n < FEWEST_RANKED or np.ptp(x) == 0 or np.ptp(y) == 0:
        return {"rho": np.nan, "p": np.nan, "n": n, "low": np.nan, "high": np.nan}
    result = stats.spearmanr(x, y)
    p = _order_p(x, y) if n <= MOST_ORDERED else max(float(result.pvalue), 2 / factorial(n))
    drawn = bootstrap(_resampled_rho(x, y), n, resamples, seed)
    low, high = interval(drawn)
    if np.isclose(low, high, rtol=0, atol=1e-9):
        low = high = np.nan
    return {"rho": float(result.statistic), "p": p, "n": n, "low": low, "high": high}


def _order_p(x: Array, y: Array) -> float:
    """Return the share of all orders of ``y`` whose rank correlation with ``x`` is at least as far from 0."""
    a, b = (2 * stats.rankdata(scores) - len(scores) - 1 for scores in (x, y))  # integers: equal sums are equal
    return float((np.abs(a[_orders(len(x))] @ b) >= abs(a @ b)).mean())


@cache
def _orders(n: int) -> NDArray[np.int8]:
    """Return all permutations (n!,n) of n indices."""
    return np.array(list(permutations(range(n))), np.int8)


def _signed_rank_p(differences: Array) -> float:
    """Return the two-sided p of the Wilcoxon signed-rank test of nonzero differences; 1 without any."""
    n = len(differences)
    if n > MOST_SIGNED:
        return float(stats.wilcoxon(differences).pvalue)
    ranks = 2 * stats.rankdata(np.abs(differences))  # integers: equal sums are equal
    signs = np.array(list(product((-1, 1), repeat=n)))
    return float((np.abs(signs @ ranks) >= abs(np.sign(differences) @ ranks)).mean())


def _resampled_rho(x: Array, y: Array) -> Callable[[NDArray[np.int64]], Array]:
    """Return the rank correlation of draws as a function of their indices (R,n) -> (R,); NaN where a score is constant.

    The ranks follow from how often each value was drawn, so no draw is sorted. Ranks are multiples of 1/2, so only the
    last quotient is rounded.
    """
    ranked = [_rank_of_draws(values) for values in (x, y)]

    def correlate(index: NDArray[np.int64]) -> Array:
        draws, n = index.shape
        counts = np.bincount((index + n * np.arange(draws)[:, None]).ravel(), minlength=draws * n).reshape(draws, n)
        a, b = (ranks(counts) - (n + 1) / 2 for ranks in ranked)
        weighted = counts * a
        spread = np.sqrt((weighted * a).sum(1) * (counts * b * b).sum(1))
        return np.where(spread > 0, (weighted * b).sum(1) / np.where(spread > 0, spread, 1), np.nan)

    return correlate


def _rank_of_draws(values: Array) -> Callable[[NDArray[np.int64]], Array]:
    """Return a function from counts (R,n), how often each value was drawn, to the average rank of each value (R,n)."""
    order = np.argsort(values, kind="stable")
    new = np.r_[True, values[order][1:] > values[order][:-1]]  # equal values share a rank
    place, first = np.empty(len(values), np.int64), np.flatnonzero(new)
    place[order] = np.cumsum(new) - 1

    def ranks(counts: NDArray[np.int64]) -> Array:
        drawn = np.add.reduceat(counts.take(order, 1), first, axis=1)
        return np.asarray((np.cumsum(drawn, axis=1) - (drawn - 1) / 2).take(place, 1))

    return ranks
