"""Statistics against closed forms, SciPy and brute-force resampling."""

import csv
import itertools
import json
import math
from pathlib import Path

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
    pair_keys,
    paired_difference,
    paired_tolerance,
    proportion,
    rank_correlation,
    robust_accuracy,
    survival,
    tolerance_summary,
)

NAN = float("nan")
PUBLISHED = Path(__file__).parents[3] / "shared" / "data"


def test_tolerance_of_a_hand_counted_set():
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


def test_median_of_mostly_censored_images_is_infinite_and_json_free_of_arrays():
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
def test_median_interval_is_that_of_resampling(n):
    radius = np.random.default_rng(n).exponential(1, n)
    summary = tolerance_summary([Status.FOUND] * n, radius, eps_max=100, resamples=40_000)
    drawn = np.median(np.random.default_rng(1).choice(radius, (40_000, n)), axis=1)
    spread = np.ptp(radius) + 1e-9
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert abs(summary["median"]["low"] - low) < 0.03 * spread
    assert abs(summary["median"]["high"] - high) < 0.05 * spread


def test_mean_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    summaries = [mean_summary(rng.exponential(1, 60), resamples=500, seed=i) for i in range(300)]
    covered = np.mean([s["low"] <= 1 <= s["high"] for s in summaries])
    assert 0.89 < covered < 0.98


def test_fifty_thousand_images_are_summarised_in_chunks_with_a_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 50_000)
    summary = mean_summary(values, resamples=400)
    assert summary["high"] - summary["low"] == pytest.approx(2 * 1.96 * summary["se"], rel=0.15)


def test_undefined_values_are_counted_not_averaged():
    summary = mean_summary([NAN, 1, 2, NAN])
    assert (summary["mean"], summary["n"], summary["n_undefined"]) == (1.5, 2, 2)
    assert mean_summary([NAN])["n"] == mean_summary([])["n"] == 0
    assert alignment_summary([0.5, NAN])["share_of_ceiling"] == 0.5 / NOISE_CEILING


def test_same_seed_same_interval_and_the_global_generator_is_untouched():
    values = np.arange(20.0)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - this is the state to protect
    assert mean_summary(values, seed=1) == mean_summary(values, seed=1) != mean_summary(values, seed=2)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_survival_counts_wrong_images_and_leaves_failed_ones_out():
    curve = survival(
        [Status.WRONG, Status.CENSORED, Status.FOUND, Status.FOUND, Status.FAILED],
        [NAN, NAN, 1, 3, NAN],
        [0, 0.99, 1, 2, 3, 10],
    )
    assert curve["share"] == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25]
    assert (curve["n"], curve["n_failed"]) == (4, 1)
    assert np.isnan(survival([], [], [1.0])["share"]).all()


def test_area_under_survival_is_the_restricted_mean_of_a_model_that_is_never_wrong():
    radius = np.random.default_rng(0).exponential(2, 200)
    status = np.where(radius < 5, Status.FOUND, Status.CENSORED)
    radii = np.linspace(0, 5, 20_001)
    area = integrate.trapezoid(survival(status, radius, radii)["share"], radii)
    assert area == pytest.approx(tolerance_summary(status, radius, eps_max=5)["restricted_mean"]["mean"], rel=1e-3)


def test_wilson_interval_against_its_formula():
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


def test_paired_difference_uses_the_shared_images_only():
    a, b = [1, 2, NAN, 4, 8.0], [2, 4, 5, NAN, 9.5]
    summary = paired_difference(a, b)
    assert summary["mean"] == 1.5
    assert summary["n"] == 3
    assert summary["p"] == stats.wilcoxon([1, 2, 1.5]).pvalue


def test_paired_difference_sees_what_unpaired_intervals_hide():
    rng = np.random.default_rng(0)
    a = rng.normal(5, 3, 200)
    b = a + rng.normal(0.2, 0.3, 200)
    paired = paired_difference(a, b)
    assert paired["p"] < 1e-6 and paired["low"] > 0
    assert stats.ttest_ind(a, b).pvalue > 0.05


def test_paired_difference_of_nothing_and_of_equals():
    assert np.isnan(paired_difference([], [])["p"])
    values = np.arange(10.0)
    assert paired_difference(values, values) == {"mean": 0, "se": 0, "low": 0, "high": 0, "n": 10, "p": 1}


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


def test_the_fewest_values_are_those_from_which_intervals_cover_what_they_should():
    """The reason for FEWEST: coverage of the 95 % interval of a mean and of a median, of skewed radii."""
    rng, covered = np.random.default_rng(0), {}
    for n in (3, FEWEST):
        drawn = [
            tolerance_summary([Status.FOUND] * n, rng.exponential(1, n), eps_max=99, resamples=400) for _ in range(200)
        ]
        if n < FEWEST:  # what such an interval would be
            values = rng.exponential(1, (200, n))
            resampled = np.array([v[rng.integers(n, size=(400, n))].mean(1) for v in values])
            low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
            assert ((low <= 1) & (high >= 1)).mean() < 0.75
            assert all(np.isnan(summary["restricted_mean"]["low"]) for summary in drawn)
            continue
        for name, truth in (("restricted_mean", 1), ("median", np.log(2))):
            covered[name] = np.mean([s[name]["low"] <= truth <= s[name]["high"] for s in drawn])
    assert covered["restricted_mean"] > 0.8 and covered["median"] > 0.88


def test_a_share_has_an_interval_for_any_number_but_no_error_of_zero():
    for successes, n in ((3, 3), (0, 1)):
        share = proportion(successes, n)
        assert np.isnan(share["se"])
        assert share["high"] - share["low"] > 0.5


def test_paired_p_is_exact_for_few_differences_also_tied_ones():
    assert paired_difference(np.zeros(5), np.ones(5))["p"] == 2 / 2**5  # never below 0.05
    assert paired_difference(np.zeros(6), np.ones(6))["p"] == 2 / 2**6
    assert paired_difference([0], [1])["p"] == 1
    differences = np.random.default_rng(0).normal(0.3, 1, 12)
    assert paired_difference(np.zeros(12), differences)["p"] == pytest.approx(stats.wilcoxon(differences).pvalue)
    tied = np.array([1, 1, -1, 2, 3, 3, 0, -2])
    signs = stats.permutation_test(
        (np.sign(tied[tied != 0]) * stats.rankdata(np.abs(tied[tied != 0])),),
        np.sum,
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert paired_difference(np.zeros(8), tied)["p"] == pytest.approx(signs.pvalue)


def test_paired_tolerance_limits_and_leaves_out():
    values = paired_tolerance(
        [Status.WRONG, Status.CENSORED, Status.FOUND, Status.FOUND, Status.FAILED], [NAN, NAN, 3, 12, NAN], eps_max=10
    )
    np.testing.assert_array_equal(values, [NAN, 10, 3, 10, NAN])


def test_pair_keys_finds_shared_images_in_any_order():
    first, second = pair_keys(["c", "a", "b"], ["b", "d", "c"])
    assert [(["c", "a", "b"][i], ["b", "d", "c"][j]) for i, j in zip(first, second, strict=True)] == [
        ("b", "b"),
        ("c", "c"),
    ]


def test_rank_correlation_is_scipys_with_ties_and_gaps():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, 60).astype(float)
    y = x + rng.integers(0, 8, 60)
    expected = stats.spearmanr(x, y)
    summary = rank_correlation([*x, NAN, 1], [*y, 1, NAN])
    assert summary["rho"] == pytest.approx(expected.statistic, abs=1e-12)
    assert summary["p"] == pytest.approx(expected.pvalue)
    assert summary["n"] == 60
    assert summary["low"] < summary["rho"] < summary["high"]


def test_rank_correlation_interval_is_that_of_resampling():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    summary = rank_correlation(x, y, resamples=4000)
    index = np.random.default_rng(5).integers(0, 40, (4000, 40))
    drawn = [stats.spearmanr(x[i], y[i]).statistic for i in index]
    assert (summary["low"], summary["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_rank_correlation_of_few_models_has_the_exact_p_and_no_interval(n):
    rng = np.random.default_rng(n)
    for x, y in (rng.normal(size=(2, n)), (np.arange(n), np.arange(n)[::-1])):
        summary = rank_correlation(x, y)
        centred = stats.rankdata(y) - (n + 1) / 2
        exact = stats.permutation_test(
            (stats.rankdata(x),), lambda a, c=centred: a @ c, permutation_type="pairings", n_resamples=np.inf
        )
        assert summary["p"] == pytest.approx(exact.pvalue)
        assert summary["rho"] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert np.isnan([summary["low"], summary["high"]]).all()
    assert summary["p"] == pytest.approx(2 / math.factorial(n))


def test_rank_correlation_of_tied_scores_is_compared_with_every_order():
    x, y = [1, 1, 2, 3, 3], [1, 2, 2, 2, 5]
    rho = [stats.spearmanr(x, order).statistic for order in itertools.permutations(y)]
    assert rank_correlation(x, y)["p"] == pytest.approx(np.mean(np.abs(rho) >= abs(rho[0]) - 1e-12))


def test_a_perfect_order_is_no_certainty():
    for n in (9, 10, 12):
        summary = rank_correlation(range(n), range(n))
        assert summary["rho"] == pytest.approx(1)
        assert summary["p"] == pytest.approx(2 / math.factorial(n))
        assert np.isnan(summary["low"])


@pytest.mark.parametrize(("x", "y"), [([], []), ([1, 2], [1, 2]), ([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4])])
def test_rank_correlation_of_too_little_is_undefined(x, y):
    assert all(np.isnan(value) for key, value in rank_correlation(x, y).items() if key != "n")


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
        (lambda: mean_summary([1.0], confidence=95), "confidence"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not here")
def test_published_correlations_of_2025():
    with (PUBLISHED / "feng2025_l2fmn.csv").open() as file:
        models = {row["model"]: row for row in csv.DictReader(file)}
    with (PUBLISHED / "timm_results_imagenet.csv").open() as file:
        accuracy = {row["model"]: float(row["top1"]) for row in csv.DictReader(file)}
    both = [name for name in models if name in accuracy]
    top1 = [accuracy[name] for name in both]
    tolerance, alignment = ([float(models[name][column]) for name in both] for column in ("pt", "aa"))
    for x, y, rho, low, high in [
        (top1, tolerance, 0.825, 0.784, 0.854),
        (top1, alignment, -0.745, -0.778, -0.698),
        (tolerance, alignment, -0.713, -0.762, -0.655),
    ]:
        summary = rank_correlation(x, y)
        assert summary["n"] == 305
        assert round(summary["rho"], 3) == rho
        assert (summary["low"], summary["high"]) == pytest.approx((low, high), abs=0.006)


def test_robust_accuracy_is_the_survival_curve_at_the_budgets():
    rng = np.random.default_rng(0)
    status, radius = rng.integers(0, 4, 400), rng.exponential(2, 400)
    radius[:4], status[:4] = [0.5, 1.0, 2.0, 3.0], Status.FOUND  # exactly at a budget: fooled
    shares = robust_accuracy(status, radius, eps_max=10)
    curve = survival(status, radius, BUDGETS)
    assert [share["value"] for share in shares] == pytest.approx(curve["share"], rel=1e-12)
    assert {share["n"] for share in shares} == {curve["n"]}
    assert {share["n_failed"] for share in shares} == {(status == Status.FAILED).sum()}
    for share in shares:  # an interval that holds the share, and the count by hand
        correct = sum(
            s == Status.CENSORED or (s == Status.FOUND and r > share["eps"])
            for s, r in zip(status, radius, strict=True)
        )
        assert share["value"] == correct / (status != Status.FAILED).sum()
        assert share["low"] < share["value"] < share["high"]


def test_robust_accuracy_says_nothing_beyond_what_was_searched():
    assert [share["eps"] for share in robust_accuracy([Status.CENSORED], [np.nan], eps_max=1.0)] == [0.5, 1.0]
    empty = robust_accuracy([], [], eps_max=10)
    assert len(empty) == 4
    assert np.isnan(empty[0]["value"])
