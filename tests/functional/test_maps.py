"""Saliency, attack map and pyramid against closed forms and the published values."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harmonizer.functional import attack_map, gaussian_pyramid, input_saliency
from harmonizer.functional.saliency import reductions

GOLDEN = Path(__file__).parents[1] / "golden" / "pyramid.npz"


@pytest.mark.parametrize("size", [64, 33])
def test_pyramid_equals_the_published_one(size):
    with np.load(GOLDEN, allow_pickle=False) as golden:
        levels = gaussian_pyramid(torch.from_numpy(golden[f"in.{size}"]).double().reshape(-1, size, size), 6)
        for i, level in enumerate(levels):
            expected = golden[f"f64.{size}.{i}"].reshape(level.shape)
            np.testing.assert_allclose(level, expected, rtol=1e-9, atol=1e-15)


def test_pyramid_requires_a_level_and_three_dimensions():
    with pytest.raises(ValueError, match="at least 1"):
        gaussian_pyramid(torch.rand(1, 8, 8), 0)
    with pytest.raises(ValueError, match=r"\(B,H,W\)"):
        gaussian_pyramid(torch.rand(8, 8), 2)


@pytest.mark.parametrize("reduction", ["mean", "absmax"])
def test_a_linear_models_saliency_is_its_weight(reduction):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 4, 7)).double()
    images, labels = torch.rand(3, 3, 5, 4).double().requires_grad_(), torch.tensor([6, 0, 6])
    weight = model[1].weight.detach()[labels].reshape(3, 3, 5, 4)
    expected = weight.mean(1) if reduction == "mean" else weight.abs().amax(1)
    saliency = input_saliency(model(images), images, labels, reduction=reduction)
    torch.testing.assert_close(saliency, expected)
    assert not saliency.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_saliency_keeps_cross_sample_terms_of_batchnorm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images, labels = torch.rand(2, 3, 8, 8).requires_grad_(), torch.tensor([0, 1])
    together = input_saliency(model(images), images, labels)
    logits = model(images)
    (own,) = torch.autograd.grad(logits[0, 0], images)
    assert not torch.allclose(together[0], own.mean(1)[0])


def test_saliency_errors_name_the_invalid_argument():
    images, logits, labels = torch.rand(2, 3, 4, 4), torch.rand(2, 5), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="require grad"):
        input_saliency(logits, images, labels)
    images.requires_grad_()
    with pytest.raises(ValueError, match="expected logits"):
        input_saliency(logits, images, labels[:1])
    with pytest.raises(ValueError, match="'median'"):
        input_saliency(images.sum((2, 3)), images, labels, reduction="median")


def test_errors_name_unknown_or_missing_reductions():
    with pytest.raises(ValueError, match="'median'"):
        reductions(["mean", "median"])
    with pytest.raises(ValueError, match="at least one"):
        reductions([])


def test_attack_map_takes_the_absolute_value_after_the_mean():
    images = torch.rand(2, 3, 6, 5)
    shift = torch.zeros_like(images)
    shift[:, 0], shift[:, 1] = 0.3, -0.3  # opponent colours cancel
    torch.testing.assert_close(attack_map(images + shift, images), torch.zeros(2, 6, 5), atol=1e-7, rtol=0)
    torch.testing.assert_close(attack_map(images - 0.2, images), torch.full((2, 6, 5), 0.2))
    with pytest.raises(ValueError, match="one shape"):
        attack_map(images, images[:1])
