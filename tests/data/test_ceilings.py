"""Ceilings against closed forms and simulated participants."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from harmonizer.data.ceilings.split_half import measure_ceilings, split_half_reliability


def reliability(stack, **options):
    return split_half_reliability(torch.from_numpy(stack).double(), **options)


def test_two_participants_equal_the_spearman_brown_formula():
    stack = np.random.default_rng(0).random((2, 30, 40))
    r = spearmanr(stack[0].ravel(), stack[1].ravel()).statistic
    assert reliability(stack) == pytest.approx(2 * r / (1 + r), rel=1e-9)


@pytest.mark.parametrize("people", [4, 5])
def test_few_participants_use_all_split_halves(people):
    stack = np.random.default_rng(1).random((people, 12, 12)) + np.random.default_rng(2).random((12, 12))
    correlations = []
    for half in combinations(range(people), people // 2):
        other = [person for person in range(people) if person not in half]
        halves = stack[list(half)].mean(axis=0).ravel(), stack[other].mean(axis=0).ravel()
        correlations.append(spearmanr(*halves).statistic)
    r = np.mean(correlations)
    assert reliability(stack) == pytest.approx(2 * r / (1 + r), rel=1e-9)


def test_reliability_predicts_fresh_participants():
    """The reliability estimates the correlation between the mean maps of two independent groups of people."""
    rng = np.random.default_rng(3)
    common = rng.normal(size=(60, 60))

    def people(count):
        return common + 2 * rng.normal(size=(count, 60, 60))

    estimate = np.mean([reliability(people(12), splits=5, seed=seed) for seed in range(5)])
    fresh = [spearmanr(people(12).mean(axis=0).ravel(), people(12).mean(axis=0).ravel()).statistic for _ in range(20)]
    assert estimate == pytest.approx(np.mean(fresh), abs=0.02)


def test_random_splits_depend_only_on_the_seed():
    stack = np.random.default_rng(4).random((10, 8, 8))
    assert reliability(stack, seed=1) == reliability(stack, seed=1)
    assert reliability(stack, seed=1) != reliability(stack, seed=2)


def test_undefined_ceilings_are_nan():
    assert math.isnan(reliability(np.random.default_rng(0).random((1, 4, 4))))
    assert math.isnan(reliability(np.ones((3, 4, 4))))
    with pytest.raises(ValueError, match=r"expected a stack \(P,H,W\)"):
        reliability(np.ones((4, 4)))


def test_floor_pairs_each_image_with_the_next(tmp_path):
    assert measure_ceilings(tmp_path / "absent") is None
    rng = np.random.default_rng(5)
    stacks = {name: rng.random((3, 10, 10)) for name in "abc"}
    stacks["d"] = np.ones((2, 10, 10))  # constant: its rank correlation is undefined
    for name, stack in stacks.items():
        np.save(tmp_path / f"{name}.npy", stack)
    ceilings = measure_ceilings(tmp_path)
    means = [stacks[name].mean(axis=0).ravel() for name in "abc"]
    defined = [spearmanr(means[0], means[1]).statistic, spearmanr(means[1], means[2]).statistic]
    assert ceilings.floor == pytest.approx(np.mean(defined), abs=2e-6)
    assert ceilings.per_image["d"] is None
    expected = [reliability(stacks[name]) for name in "abc"]
    assert [ceilings.per_image[name] for name in "abc"] == pytest.approx(expected, abs=1e-6)
    assert ceilings.overall == pytest.approx(np.mean(expected), abs=2e-6)


def test_the_floor_needs_two_images(tmp_path):
    stacks = np.random.default_rng(6).random((2, 2, 10, 10))
    np.save(tmp_path / "a.npy", stacks[0])
    assert measure_ceilings(tmp_path).floor is None
    np.save(tmp_path / "b.npy", stacks[1])
    expected = spearmanr(stacks[0].mean(axis=0).ravel(), stacks[1].mean(axis=0).ravel()).statistic
    assert measure_ceilings(tmp_path).floor == pytest.approx(expected, abs=1e-6)
