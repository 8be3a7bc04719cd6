"""Statistics against closed forms, SciPy and brute-force resampling."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harmonizer.statistics import (
    BUDGETS,
    CENSORED,
    FAILED,
    FOUND,
    HUMAN_CEILING,
    WRONG,
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
PUBLISHED = Path(__file__).parents[2] / "shared" / "data"


def test_tolerance_of_a_hand_counted_set():
    status = [WRONG, CENSORED, FOUND, FOUND, FOUND, FAILED]
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
    summary = tolerance_summary([CENSORED] * 9 + [FOUND], [NAN] * 9 + [1.0], eps_max=10)
    assert summary["median"]["value"] == np.inf
    assert summary["median"]["high"] == np.inf
    json.dumps(summary)


@pytest.mark.parametrize("status", [[], [WRONG, WRONG], [FAILED], [WRONG, FAILED]])
def test_nothing_to_average_gives_nan_without_a_warning(status):
    summary = tolerance_summary(status, [NAN] * len(status), eps_max=10)
    for aggregate in ("median", "restricted_mean", "paper_mean"):
        assert summary[aggregate]["n"] == 0
        assert all(np.isnan(value) for key, value in summary[aggregate].items() if key != "n")
    assert summary["n"] == len(status)


def test_constant_model_reaches_eps_max():
    summary = tolerance_summary([WRONG] * 9 + [CENSORED], [NAN] * 10, eps_max=10)
    assert summary["restricted_mean"]["mean"] == 10
    assert np.isnan(summary["restricted_mean"]["se"])  # one image has no spread


@pytest.mark.parametrize("n", [1, 2, 7, 10, 51])
def test_median_interval_is_that_of_resampling(n):
    radius = np.random.default_rng(n).exponential(1, n)
    summary = tolerance_summary([FOUND] * n, radius, eps_max=100, resamples=40_000)
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
    assert alignment_summary([0.5, NAN])["share_of_ceiling"] == 0.5 / HUMAN_CEILING


def test_same_seed_same_interval_and_the_global_generator_is_untouched():
    values = np.arange(20.0)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - this is the state to protect
    assert mean_summary(values, seed=1) == mean_summary(values, seed=1) != mean_summary(values, seed=2)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_survival_counts_wrong_images_and_leaves_failed_ones_out():
    curve = survival([WRONG, CENSORED, FOUND, FOUND, FAILED], [NAN, NAN, 1, 3, NAN], [0, 0.99, 1, 2, 3, 10])
    assert curve["share"] == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25]
    assert (curve["n"], curve["n_failed"]) == (4, 1)
    assert np.isnan(survival([], [], [1.0])["share"]).all()


def test_area_under_survival_is_the_restricted_mean_of_a_model_that_is_never_wrong():
    radius = np.random.default_rng(0).exponential(2, 200)
    status = np.where(radius < 5, FOUND, CENSORED)
    radii = np.linspace(0, 5, 20_001)
    area = np.trapezoid(survival(status, radius, radii)["share"], radii)
    assert area == pytest.approx(tolerance_summary(status, radius, eps_max=5)["restricted_mean"]["mean"], rel=1e-3)


def test_wilson_interval_against_its_formula():
    share = proportion(45, 50)
    z, n, p = stats.norm.ppf(0.975), 50, 0.9
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    assert (share["low"], share["high"]) == pytest.approx((centre - half, centre + half))
    assert proportion(0, 0)["n"] == 0
    assert proportion(0, 8)["low"] == 0 < proportion(0, 8)["high"]


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
    assert paired_difference([1, 2], [1, 2]) == {"mean": 0, "se": 0, "low": 0, "high": 0, "n": 2, "p": 1}


def test_paired_tolerance_limits_and_leaves_out():
    values = paired_tolerance([WRONG, CENSORED, FOUND, FOUND, FAILED], [NAN, NAN, 3, 12, NAN], eps_max=10)
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


@pytest.mark.parametrize(("x", "y"), [([], []), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3])])
def test_rank_correlation_of_too_little_is_undefined(x, y):
    assert np.isnan(rank_correlation(x, y)["rho"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tolerance_summary([FOUND], [NAN], eps_max=10), "finite radius"),
        (lambda: tolerance_summary([4], [1.0], eps_max=10), "status codes 0 to 3"),
        (lambda: tolerance_summary([FOUND], [1.0, 2.0], eps_max=10), "shapes"),
        (lambda: tolerance_summary([FOUND], [1.0], eps_max=0), "eps_max above 0"),
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
    radius[:4], status[:4] = [0.5, 1.0, 2.0, 3.0], FOUND  # exactly at a budget: fooled
    shares = robust_accuracy(status, radius, eps_max=10)
    curve = survival(status, radius, BUDGETS)
    assert [share["value"] for share in shares] == pytest.approx(curve["share"], rel=1e-12)
    assert {share["n"] for share in shares} == {curve["n"]}
    assert {share["n_failed"] for share in shares} == {(status == FAILED).sum()}
    for share in shares:  # an interval that holds the share, and the count by hand
        correct = sum(s == CENSORED or (s == FOUND and r > share["eps"]) for s, r in zip(status, radius, strict=True))
        assert share["value"] == correct / (status != FAILED).sum()
        assert share["low"] < share["value"] < share["high"]


def test_robust_accuracy_says_nothing_beyond_what_was_searched():
    assert [share["eps"] for share in robust_accuracy([CENSORED], [np.nan], eps_max=1.0)] == [0.5, 1.0]
    empty = robust_accuracy([], [], eps_max=10)
    assert len(empty) == 4
    assert np.isnan(empty[0]["value"])
