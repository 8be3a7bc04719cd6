"""Summaries of one model's per-image results."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from harmonizer.statistics.bootstrap import CONFIDENCE, FEWEST, Array, Summary, as_vector, bootstrap, interval, without
from harmonizer.statistics.status import STATUSES, Status

NOISE_CEILING = 0.65753  # of people: Spearman correlation between ClickMe maps (Linsley et al. 2023)
CLICKME_V2 = (
    "ClickMe v2, by harmonizer.data.ceilings"  # a summary's name for the ceilings that onevision2026 divides by
)


def tolerance_summary(
    status: ArrayLike, radius: ArrayLike, *, eps_max: float, resamples: int = 2000, seed: int = 0
) -> Summary:
    """Summarise how far images can be perturbed before a model errs.

    The median and the restricted mean ``mean(min(r, eps_max))`` are over the images that were correct before the attack
    and did not fail (found and censored). A censored image counts as +inf in the median and as ``eps_max`` in the mean.
    ``paper_mean`` is the mean over found images only, as published in 2023; it is biased when images are censored.

    Args:
        status: (N,) codes, indices of :data:`STATUSES`.
        radius: (N,) minimal radii; only those of found images are read.
        eps_max: Largest radius that the attack searched.
        resamples: Number of bootstrap resamples.
        seed: Bootstrap seed.

    Returns:
        ``n`` (all images), ``n_wrong``, ``n_censored``, ``n_found``, ``n_failed``, ``eps_max``; ``median``
        {value, low, high, n}; ``restricted_mean`` and ``paper_mean`` as from :func:`mean_summary`.

    Raises:
        ValueError: Shapes differ, a status is unknown, ``eps_max`` is not positive, or a found radius is not finite.

    Reference:
        Linsley et al. 2023, section 3; Royston and Parmar 2013 for the restricted mean.

    >>> s = tolerance_summary([0, 1, 2, 2], [np.nan, np.nan, 1.0, 2.0], eps_max=10)
    >>> s["median"]["value"], round(s["restricted_mean"]["mean"], 3), s["paper_mean"]["mean"]
    (2.0, 4.333, 1.5)
    """
    status, radius = as_attacked(status, radius)
    if not eps_max > 0:
        raise ValueError(f"expected eps_max above 0, got {eps_max}")
    found = radius[status == Status.FOUND]
    censored = int((status == Status.CENSORED).sum())
    survivors = np.concatenate([found, np.full(censored, np.inf)])

    def mean(values: Array) -> Summary:
        summary = mean_summary(values, resamples=resamples, seed=seed)
        return without(summary, "n_undefined")

    counts = {f"n_{name}": int((status == code).sum()) for code, name in enumerate(STATUSES)}
    return {
        "n": len(status),
        **counts,
        "eps_max": float(eps_max),
        "median": _median_summary(survivors, resamples, seed),
        "restricted_mean": mean(np.minimum(survivors, eps_max)),
        "paper_mean": mean(found),
    }


def survival(status: ArrayLike, radius: ArrayLike, radii: ArrayLike) -> Summary:
    """Measure the share of images still classified correctly at each radius: robust accuracy.

    An image misclassified before the attack is not correct at any radius; failed images are skipped and counted.

    Args:
        status: (N,) codes, indices of :data:`STATUSES`.
        radius: (N,) minimal radii; only those of found images are read.
        radii: (M,) radii at which to evaluate, up to the attack's ``eps_max``, where censored images were searched.

    Returns:
        ``radii`` and ``share``, lists of M numbers; ``n`` images counted; ``n_failed`` images skipped.

    Raises:
        ValueError: Shapes differ, a status is unknown, or a found radius is not finite.

    >>> survival([0, 1, 2, 2], [0, 0, 1.0, 2.0], [0, 1, 1.5])["share"]
    [0.75, 0.5, 0.5]
    """
    status, radius = as_attacked(status, radius)
    at = np.atleast_1d(np.asarray(radii, float))
    last = np.select([status == Status.CENSORED, status == Status.FOUND], [np.inf, radius], -np.inf)
    last = last[status != Status.FAILED]
    correct = len(last) - np.searchsorted(np.sort(last), at, side="right")
    share = correct / len(last) if len(last) else np.full(len(at), np.nan)
    return {"radii": at.tolist(), "share": share.tolist(), "n": len(last), "n_failed": len(status) - len(last)}


def mean_summary(values: ArrayLike, *, resamples: int = 2000, seed: int = 0, ceiling: float | None = None) -> Summary:
    """Average values over images; NaN is undefined.

    The standard error is ``std / sqrt(n)`` of the defined values, with the unbiased variance.

    Args:
        values: (N,) one value per image; NaN is skipped and counted.
        resamples: Number of bootstrap resamples.
        seed: Bootstrap seed.
        ceiling: The value that people reach; adds ``ceiling`` and ``share_of_ceiling = mean / ceiling``, NaN where the
            ceiling is not above 0.

    Returns:
        ``mean``, ``se``, ``low``, ``high``, ``n``, ``n_undefined``. The interval is NaN for fewer than ten values
        (``bootstrap.FEWEST``), the standard error for fewer than two.

    >>> summary = mean_summary([1.0, 3.0, np.nan])
    >>> summary["mean"], summary["se"], summary["n"], summary["n_undefined"]
    (2.0, 1.0, 2, 1)
    """
    values = as_vector("values", values)
    defined = values[~np.isnan(values)]
    mean = float(defined.mean()) if len(defined) else np.nan
    se = float(defined.std(ddof=1) / len(defined) ** 0.5) if len(defined) > 1 else np.nan
    low, high = interval(bootstrap(lambda index: defined.take(index).mean(1), len(defined), resamples, seed))
    summary = {"mean": mean, "se": se, "low": low, "high": high, "n": len(defined)}
    summary["n_undefined"] = len(values) - len(defined)
    if ceiling is None:
        return summary
    return summary | {"ceiling": ceiling, "share_of_ceiling": mean / ceiling if ceiling > 0 else np.nan}


def alignment_summary(
    values: ArrayLike, *, ceilings: ArrayLike | None = None, resamples: int = 2000, seed: int = 0
) -> Summary:
    """Average rank correlations with human maps, raw and as a share of the correlation between people.

    The ceiling is the mean over the images whose value is defined. The share is a ratio of means: an image on which
    people hardly agree would dominate a mean of ratios.

    Args:
        values: (N,) one correlation per image; NaN is skipped and counted.
        ceilings: (N,) correlation between people on each image, NaN where unknown; None means the published
            :data:`NOISE_CEILING`.
        resamples: Number of bootstrap resamples.
        seed: Bootstrap seed.

    Returns:
        The result of :func:`mean_summary`; ``ceiling`` and ``share_of_ceiling`` are NaN where no image has a ceiling.

    Raises:
        ValueError: ``values`` and ``ceilings`` differ in length.

    >>> alignment_summary([0.65753, 0.65753])["share_of_ceiling"]
    1.0
    >>> alignment_summary([0.25, 0.5, np.nan], ceilings=[0.5, 1.0, 0.1])["share_of_ceiling"]
    0.5
    """
    ceiling = NOISE_CEILING
    if ceilings is not None:
        values, reached = as_vector("values", values), as_vector("ceilings", ceilings)
        if len(values) != len(reached):
            raise ValueError(f"expected one ceiling per value, got {len(reached)} for {len(values)}")
        known = reached[~np.isnan(values) & ~np.isnan(reached)]
        ceiling = float(known.mean()) if len(known) else np.nan
    return mean_summary(values, resamples=resamples, seed=seed, ceiling=ceiling)


def proportion(successes: int, n: int) -> Summary:
    """Estimate a proportion, such as accuracy, with its Wilson interval.

    The interval stays inside [0,1] and is valid for any n, and near 0 and 1. ``se = sqrt(p (1 - p) / n)``, but NaN for
    proportions of 0 and 1, where it would claim certainty.

    Raises:
        ValueError: Not ``0 <= successes <= n``.

    Reference:
        Wilson 1927.

    >>> share = proportion(8, 10)
    >>> share["value"], round(share["low"], 3), round(share["high"], 3)
    (0.8, 0.49, 0.943)
    """
    if not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n, got {successes} of {n}")
    if n == 0:
        return {"value": np.nan, "se": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    share, n, z = successes / n, int(n), float(ndtri(0.5 + 0.5 * CONFIDENCE))
    # The same as scipy.stats.binomtest, which also computes a p value: twenty times slower for a thousand images.
    center, half = (2 * n * share + z**2) / (2 * (n + z**2)), (4 * n * share * (1 - share) + z**2) ** 0.5
    low, high = (center + sign * z / (2 * (n + z**2)) * half for sign in (-1, 1))
    se = (share * (1 - share) / n) ** 0.5 if 0 < successes < n else np.nan
    return {"value": share, "se": se, "low": low if successes else 0.0, "high": high if successes < n else 1.0, "n": n}


def as_attacked(status: ArrayLike, radius: ArrayLike) -> tuple[NDArray[np.int64], Array]:
    """Return checked status codes and radii."""
    codes = np.asarray(status)
    codes = codes.astype(np.int64) if codes.size else codes.reshape(-1).astype(np.int64)
    radius = as_vector("radius", radius)
    if codes.shape != radius.shape:
        raise ValueError(f"expected one status and one radius per image, got shapes {codes.shape} and {radius.shape}")
    if codes.size and not (codes.min() >= 0 and codes.max() < len(STATUSES)):
        raise ValueError(
            f"expected status codes 0 to {len(STATUSES) - 1} for {STATUSES}, got {sorted(set(codes.tolist()))}"
        )
    found = radius[codes == Status.FOUND]
    if not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError("expected a finite radius >= 0 for every found image; an image without one is failed")
    return codes, radius


def _median_summary(values: Array, resamples: int, seed: int) -> Summary:
    """Return the median of values that may be +inf, with its bootstrap interval.

    The median of a resample depends only on the middle order statistics of n uniform draws. The k-th is
    Beta(k, n+1-k) and the next follows from it, so a resample takes two random numbers for any n.
    """
    n = len(values)
    if n == 0:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    resamples = resamples if n >= FEWEST else 0
    ordered, rng, k = np.sort(values), np.random.default_rng(seed), (n + 1) // 2
    lower = rng.beta(k, n + 1 - k, resamples)
    upper = lower if n % 2 else 1 - (1 - lower) * rng.random(resamples) ** (1 / (n - k))
    at = [np.minimum((uniform * n).astype(np.int64), n - 1) for uniform in (lower, upper)]
    low, high = interval((ordered[at[0]] + ordered[at[1]]) / 2)
    return {"value": float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2), "low": low, "high": high, "n": n}
