"""Paired differences and rank correlations."""

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harmonizer.statistics import (
    Status,
    pair_keys,
    paired_difference,
    paired_tolerance,
    rank_correlation,
)
from harmonizer.statistics.comparison import _resampled_rho

NAN = float("nan")

PUBLISHED = Path(__file__).parents[3] / "shared" / "data"


def test_paired_difference_uses_the_shared_images_only():
    a, b = [1, 2, NAN, 4, 8.0], [2, 4, 5, NAN, 9.5]
    summary = paired_difference(a, b)
    assert summary["mean"] == 1.5
    assert summary["n"] == 3
    assert summary["p"] == stats.wilcoxon([1, 2, 1.5]).pvalue


def test_paired_difference_detects_what_unpaired_tests_miss():
    rng = np.random.default_rng(0)
    a = rng.normal(5, 3, 200)
    b = a + rng.normal(0.2, 0.3, 200)
    paired = paired_difference(a, b)
    assert paired["p"] < 1e-6 and paired["low"] > 0
    assert stats.ttest_ind(a, b).pvalue > 0.05


def test_paired_difference_is_nan_if_empty_and_0_if_equal():
    assert np.isnan(paired_difference([], [])["p"])
    values = np.arange(10.0)
    assert paired_difference(values, values) == {"mean": 0, "se": 0, "low": 0, "high": 0, "n": 10, "p": 1}


def test_paired_p_is_exact_for_few_differences_even_with_ties():
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


def test_paired_tolerance_is_capped_and_nan_if_wrong_or_failed():
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


def test_rank_correlation_equals_scipy_with_ties_and_gaps():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, 60).astype(float)
    y = x + rng.integers(0, 8, 60)
    expected = stats.spearmanr(x, y)
    summary = rank_correlation([*x, NAN, 1], [*y, 1, NAN])
    assert summary["rho"] == pytest.approx(expected.statistic, abs=1e-12)
    assert summary["p"] == pytest.approx(expected.pvalue)
    assert summary["n"] == 60
    assert summary["low"] < summary["rho"] < summary["high"]


def test_rank_correlation_interval_agrees_with_resampling():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    summary = rank_correlation(x, y, resamples=4000)
    index = np.random.default_rng(5).integers(0, 40, (4000, 40))
    drawn = [stats.spearmanr(x[i], y[i]).statistic for i in index]
    assert (summary["low"], summary["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_few_models_have_an_exact_p_and_no_interval(n):
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


def test_p_of_tied_scores_is_over_all_permutations():
    x, y = [1, 1, 2, 3, 3], [1, 2, 2, 2, 5]
    rho = [stats.spearmanr(x, order).statistic for order in itertools.permutations(y)]
    assert rank_correlation(x, y)["p"] == pytest.approx(np.mean(np.abs(rho) >= abs(rho[0]) - 1e-12))


def test_a_perfect_order_has_an_exact_p_and_no_interval():
    for n in (9, 10, 12):
        summary = rank_correlation(range(n), range(n))
        assert summary["rho"] == pytest.approx(1)
        assert summary["p"] == pytest.approx(2 / math.factorial(n))
        assert np.isnan(summary["low"])


@pytest.mark.parametrize(("x", "y"), [([], []), ([1, 2], [1, 2]), ([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4])])
def test_rank_correlation_of_too_few_values_is_undefined(x, y):
    assert all(np.isnan(value) for key, value in rank_correlation(x, y).items() if key != "n")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not in this checkout")
def test_correlations_of_feng2025_equal_the_published_ones():
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


@pytest.mark.parametrize("digits", [9, 1, 0])  # without ties, with some, with many
def test_resampled_rank_correlations_equal_scipy_to_the_bit(digits):
    rng = np.random.default_rng(digits)
    x, y = np.round(rng.normal(size=(2, 30)), digits)
    x[:2] = np.inf
    index = rng.integers(30, size=(50, 30))
    index[0] = 3  # one value only
    drawn = _resampled_rho(x, y)(index)
    assert np.isnan(drawn[0])
    for draw, rho in zip(index[1:], drawn[1:], strict=True):
        a, b = (2 * stats.rankdata(values[draw]) - 31 for values in (x, y))
        assert rho == (a @ b) / np.sqrt((a @ a) * (b @ b))
