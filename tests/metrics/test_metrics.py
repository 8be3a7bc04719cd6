"""Metrics against direct computation, however the images are batched."""

import numpy as np
import pytest
import torch
from scipy import stats

from harmonizer.metrics import AdversarialAlignment, FeatureAlignment, PerturbationTolerance


def test_tolerance_counts_each_image_once_in_any_batches():
    status = torch.tensor([2, 1, 0, 2, 3, 2])
    radius = torch.tensor([1.0, torch.nan, torch.nan, 3.0, torch.nan, 2.0])
    keys = [f"k{i}" for i in range(6)]
    metric = PerturbationTolerance(eps_max=10)
    for part in (slice(0, 1), slice(1, 1), slice(1, 6), slice(0, 3)):  # the last repeats images
        metric.update(status[part], radius[part], keys[part])
    scores = {name: float(value) for name, value in metric.compute().items()}
    assert scores["restricted_mean"] == pytest.approx((1 + 10 + 3 + 2) / 4)
    assert scores["median"] == pytest.approx(2.5)
    assert scores["paper_mean"] == pytest.approx(2)
    assert [scores[f"n_{name}"] for name in ("wrong", "censored", "found", "failed")] == [1, 1, 3, 1]
    metric.reset()
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert np.isnan(float(metric.compute()["median"]))


def test_adversarial_alignment_averages_found_images_with_a_map():
    torch.manual_seed(0)
    images, human = torch.rand(4, 3, 9, 9), torch.rand(4, 9, 9)
    adversarial = images + torch.randn(4, 3, 9, 9)
    status, has_map = torch.tensor([2, 2, 1, 2]), torch.tensor([True, False, True, True])
    human[3] = 0.5  # constant: undefined, counted, not averaged
    metric = AdversarialAlignment()
    metric.update(adversarial, images, human, status=status, has_map=has_map)
    perturbation = (adversarial - images)[0].mean(0).abs().numpy().ravel()
    expected = stats.spearmanr(perturbation, human[0].numpy().ravel()).statistic
    scores = metric.compute()
    assert float(scores["mean"]) == pytest.approx(expected, abs=1e-6)
    assert (int(scores["n"]), int(scores["n_undefined"])) == (1, 1)


def test_feature_alignment_is_one_for_a_monotone_map():
    human = torch.rand(2, 16, 16)
    metric = FeatureAlignment()
    metric.update(human.exp(), human, has_map=torch.tensor([True, True]))
    scores = metric.compute()
    assert [float(scores[name]) for name in ("mean", "dice", "iou")] == pytest.approx([1, 1, 1])
    assert float(scores["share_of_ceiling"]) == pytest.approx(1 / 0.65753)


def test_constant_human_maps_are_counted_but_not_averaged():
    torch.manual_seed(0)
    human = torch.rand(3, 16, 16)
    saliency = human.exp()
    human[1] = 0.5
    human[2] = (torch.arange(256).reshape(16, 16) < 128).float()  # has ranks, but no top tenth
    metric = FeatureAlignment()
    metric.update(saliency, human)
    scores = metric.compute()
    assert [float(scores[name]) for name in ("dice", "iou")] == [1, 1]
    assert [int(scores[name]) for name in ("n", "n_undefined", "n_undefined_overlap")] == [2, 1, 2]


def test_updates_require_one_key_per_image():
    with pytest.raises(ValueError, match="one key per image"):
        PerturbationTolerance().update(torch.tensor([2]), torch.tensor([1.0]), ["a", "b"])
