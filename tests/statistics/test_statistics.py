"""Summaries and intervals against closed forms, SciPy and brute-force resampling."""

import json

import numpy as np
import pytest
from scipy import integrate, stats

from harmonizer.statistics import (
    BUDGETS,
    FEWEST,
    NOISE_CEILING,
    Status,
    alignment_summary,
    mean_summary,
    paired_difference,
    proportion,
    robust_accuracy,
    survival,
    tolerance_summary,
)

NAN = float("nan")


def test_tolerance_equals_values_computed_by_hand():
    status = [Status.WRONG, Status.CENSORED, Status.FOUND, Status.FOUND, Status.FOUND, Status.FAILED]
    summary = tolerance_summary(status, [NAN, NAN, 1.0, 2.0, 12.0, NAN], eps_max=10)
    assert [summary[f"n_{name}"] for name in ("wrong", "censored", "found", "failed")] == [1, 1, 3, 1]
    assert summary["n"] == 6
    assert summary["median"]["value"] == 7  # of 1, 2, 12, inf
    assert summary["median"]["n"] == summary["restricted_mean"]["n"] == 4
    assert summary["restricted_mean"]["mean"] == (1 + 2 + 10 + 10) / 4
    assert summary["restricted_mean"]["se"] == pytest.approx(stats.sem([1, 2, 10, 10]))
    assert summary["paper_mean"]["mean"] == 5
    assert summary["paper_mean"]["n"] == 3


def test_mostly_censored_median_is_infinite_and_serialisable():
    summary = tolerance_summary([Status.CENSORED] * 9 + [Status.FOUND], [NAN] * 9 + [1.0], eps_max=10)
    assert summary["median"]["value"] == np.inf
    assert summary["median"]["high"] == np.inf
    json.dumps(summary)


@pytest.mark.parametrize("status", [[], [Status.WRONG, Status.WRONG], [Status.FAILED], [Status.WRONG, Status.FAILED]])
def test_nothing_to_average_gives_nan_without_a_warning(status):
    summary = tolerance_summary(status, [NAN] * len(status), eps_max=10)
    for aggregate in ("median", "restricted_mean", "paper_mean"):
        assert summary[aggregate]["n"] == 0
        assert all(np.isnan(value) for key, value in summary[aggregate].items() if key != "n")
    assert summary["n"] == len(status)


def test_constant_model_reaches_eps_max():
    summary = tolerance_summary([Status.WRONG] * 9 + [Status.CENSORED], [NAN] * 10, eps_max=10)
    assert summary["restricted_mean"]["mean"] == 10
    assert np.isnan(summary["restricted_mean"]["se"])  # one image has no spread


@pytest.mark.parametrize("n", [10, 11, 51])
def test_median_interval_agrees_with_resampling(n):
    radius = np.random.default_rng(n).exponential(1, n)
    summary = tolerance_summary([Status.FOUND] * n, radius, eps_max=100, resamples=40_000)
    drawn = np.median(np.random.default_rng(1).choice(radius, (40_000, n)), axis=1)
    spread = np.ptp(radius) + 1e-9
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert abs(summary["median"]["low"] - low) < 0.03 * spread
    assert abs(summary["median"]["high"] - high) < 0.05 * spread


def test_mean_interval_has_its_nominal_coverage():
    rng = np.random.default_rng(0)
    summaries = [mean_summary(rng.exponential(1, 60), resamples=500, seed=i) for i in range(300)]
    covered = np.mean([s["low"] <= 1 <= s["high"] for s in summaries])
    assert 0.89 < covered < 0.98


def test_the_interval_of_a_large_set_agrees_with_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 50_000)
    summary = mean_summary(values, resamples=400)
    assert summary["high"] - summary["low"] == pytest.approx(2 * 1.96 * summary["se"], rel=0.15)


def test_undefined_values_are_counted_not_averaged():
    summary = mean_summary([NAN, 1, 2, NAN])
    assert (summary["mean"], summary["n"], summary["n_undefined"]) == (1.5, 2, 2)
    assert mean_summary([NAN])["n"] == mean_summary([])["n"] == 0
    assert alignment_summary([0.5, NAN])["share_of_ceiling"] == 0.5 / NOISE_CEILING


def test_a_seed_fixes_the_interval_without_global_draws():
    values = np.arange(20.0)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - this is the state to protect
    assert mean_summary(values, seed=1) == mean_summary(values, seed=1) != mean_summary(values, seed=2)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_survival_counts_wrong_images_and_skips_failed_ones():
    curve = survival(
        [Status.WRONG, Status.CENSORED, Status.FOUND, Status.FOUND, Status.FAILED],
        [NAN, NAN, 1, 3, NAN],
        [0, 0.99, 1, 2, 3, 10],
    )
    assert curve["share"] == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25]
    assert (curve["n"], curve["n_failed"]) == (4, 1)
    assert np.isnan(survival([], [], [1.0])["share"]).all()


def test_survival_area_is_the_restricted_mean_if_never_wrong():
    radius = np.random.default_rng(0).exponential(2, 200)
    status = np.where(radius < 5, Status.FOUND, Status.CENSORED)
    radii = np.linspace(0, 5, 20_001)
    area = integrate.trapezoid(survival(status, radius, radii)["share"], radii)
    assert area == pytest.approx(tolerance_summary(status, radius, eps_max=5)["restricted_mean"]["mean"], rel=1e-3)


def test_wilson_interval_equals_its_formula_and_scipy():
    share = proportion(45, 50)
    z, n, p = stats.norm.ppf(0.975), 50, 0.9
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    assert (share["low"], share["high"]) == pytest.approx((centre - half, centre + half))
    assert proportion(0, 0)["n"] == 0
    assert proportion(0, 8)["low"] == 0 < proportion(0, 8)["high"]
    for n in (1, 7, 50, 1000):
        for successes in range(0, n + 1, max(n // 9, 1)):
            expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
            found = proportion(successes, n)
            assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9])
def test_few_values_have_a_mean_but_no_interval(n):
    values = np.random.default_rng(n).exponential(1, n)
    median = tolerance_summary([Status.FOUND] * n, values, eps_max=100)["median"]
    assert median["value"] == pytest.approx(np.median(values))
    for summary in (mean_summary(values), paired_difference(np.zeros(n), values), median, alignment_summary(values)):
        assert np.isnan([summary["low"], summary["high"]]).all()
        assert summary["n"] == n
    assert np.isnan(mean_summary(values)["se"]) == (n == 1)
    assert mean_summary([*values, *range(10 - n)])["low"] < mean_summary([*values, *range(10 - n)])["high"]


def test_intervals_cover_the_truth_from_fewest_values_on():
    """The reason for FEWEST: coverage of the 95 % intervals of mean and median for skewed radii."""
    rng, covered = np.random.default_rng(0), {}
    for n in (3, FEWEST):
        drawn = [
            tolerance_summary([Status.FOUND] * n, rng.exponential(1, n), eps_max=99, resamples=400) for _ in range(200)
        ]
        if n < FEWEST:  # so few values would give an interval that covers too rarely
            values = rng.exponential(1, (200, n))
            resampled = np.array([v[rng.integers(n, size=(400, n))].mean(1) for v in values])
            low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
            assert ((low <= 1) & (high >= 1)).mean() < 0.75
            assert all(np.isnan(summary["restricted_mean"]["low"]) for summary in drawn)
            continue
        for name, truth in (("restricted_mean", 1), ("median", np.log(2))):
            covered[name] = np.mean([s[name]["low"] <= truth <= s[name]["high"] for s in drawn])
    assert covered["restricted_mean"] > 0.8 and covered["median"] > 0.88


def test_a_share_of_0_or_1_has_an_interval_but_no_se():
    for successes, n in ((3, 3), (0, 1)):
        share = proportion(successes, n)
        assert np.isnan(share["se"])
        assert share["high"] - share["low"] > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tolerance_summary([Status.FOUND], [NAN], eps_max=10), "finite radius"),
        (lambda: tolerance_summary([4], [1.0], eps_max=10), "status codes 0 to 3"),
        (lambda: tolerance_summary([Status.FOUND], [1.0, 2.0], eps_max=10), "shapes"),
        (lambda: tolerance_summary([Status.FOUND], [1.0], eps_max=0), "eps_max above 0"),
        (lambda: proportion(3, 2), "3 of 2"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "got 1 and 2"),
        (lambda: mean_summary([[1.0]]), "shape"),
    ],
)
def test_errors_name_the_invalid_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_robust_accuracy_is_the_survival_curve_at_the_budgets():
    rng = np.random.default_rng(0)
    status, radius = rng.integers(0, 4, 400), rng.exponential(2, 400)
    radius[:4], status[:4] = [0.5, 1.0, 2.0, 3.0], Status.FOUND  # exactly at a budget: fooled
    shares = robust_accuracy(status, radius, eps_max=10)
    curve = survival(status, radius, BUDGETS)
    assert [share["value"] for share in shares] == pytest.approx(curve["share"], rel=1e-12)
    assert {share["n"] for share in shares} == {curve["n"]}
    assert {share["n_failed"] for share in shares} == {(status == Status.FAILED).sum()}
    for share in shares:  # the share equals a count by hand and lies in its interval
        correct = sum(
            s == Status.CENSORED or (s == Status.FOUND and r > share["eps"])
            for s, r in zip(status, radius, strict=True)
        )
        assert share["value"] == correct / (status != Status.FAILED).sum()
        assert share["low"] < share["value"] < share["high"]


def test_robust_accuracy_stops_at_the_largest_searched_radius():
    assert [share["eps"] for share in robust_accuracy([Status.CENSORED], [np.nan], eps_max=0.6)] == [
        0.05,
        0.1,
        0.25,
        0.5,
    ]
    empty = robust_accuracy([], [], eps_max=10)
    assert len(empty) == len(BUDGETS)
    assert np.isnan(empty[0]["value"])
