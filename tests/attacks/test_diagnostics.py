import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from harmonizer.attacks import gradient_masking_report, minimal_radius
from harmonizer.attacks.diagnostics import PASSES, SIGNS, _report


class Planted(nn.Module):
    """A linear model with a disguise, which may mask its gradient."""

    def __init__(self, disguise):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 108, generator=generator) * 0.2)
        self.disguise = disguise

    def forward(self, images):
        if self.disguise == "quantised":
            images = (images * 16).round() / 16
        logits = (images.flatten(1) - 0.5) @ self.weight.T
        if self.disguise == "saturated":
            logits = torch.sigmoid(400 * (logits - logits.mean(1, keepdim=True)))
        if self.disguise == "confident":
            logits = 1e4 * logits
        if self.disguise == "noisy":
            logits = logits + 0.2 * torch.randn_like(logits)
        if self.disguise == "scrambled":
            logits = logits + 0.3 * (300 * logits).sin()
        return logits


@pytest.fixture
def images():
    return torch.rand(40, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("disguise", "reason"),
    [
        ("quantised", "zero or non-finite gradient"),
        ("saturated", "zero or non-finite gradient"),
        ("noisy", "same input twice"),
    ],
)
def test_planted_masks_are_flagged(images, disguise, reason):
    labels = Planted(None)(images).argmax(1)
    report = gradient_masking_report(Planted(disguise), images, labels, limit=8)
    assert report.masked
    assert any(reason in sentence for sentence in report.reasons)


@pytest.mark.parametrize("disguise", [None, "confident"])
def test_an_unmasked_linear_model_is_not_flagged(images, disguise):
    model = Planted(disguise)
    labels = model(images).argmax(1)
    report = gradient_masking_report(model, images, labels, limit=8)
    assert not report.masked, report.reasons
    assert report.n == 8
    assert report.silent_margin == 0
    assert report.repeat_difference == 0
    assert report.random_ratio > 1.5
    assert 0.9 < report.effort_ratio <= 1.001
    assert (report.silent_cross_entropy > 0.5) == (disguise == "confident")


def test_only_an_exaggerated_radius_is_flagged(golden, golden_net):
    images, labels = golden["images"], golden["labels"]
    result = minimal_radius(golden_net, images, labels)
    report = gradient_masking_report(golden_net, images, labels, result, limit=4)
    assert not report.masked, report.reasons
    assert 0.9 < report.cross_entropy_ratio < 1.3
    exaggerated = replace(result, l2=40 * result.l2)
    flagged = gradient_masking_report(golden_net, images, labels, exaggerated, limit=4, eps_max=100.0)
    assert flagged.masked
    assert any("random directions fool" in reason for reason in flagged.reasons)
    assert json.loads(json.dumps(report.as_dict()))["masked"] is False


def test_without_a_correct_image_nothing_is_flagged(images):
    model = Planted(None)
    report = gradient_masking_report(model, images, (model(images).argmax(1) + 1) % 3)
    assert report.n == 0 and not report.masked


@pytest.mark.parametrize("eps_max", [10.0, 1e-4])
def test_the_report_costs_at_most_its_stated_passes(images, eps_max):
    model, passes = Planted(None), []
    model.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0]) * (1 + inputs[0].requires_grad)))
    labels = Planted(None)(images).argmax(1)
    report = gradient_masking_report(model, images[:8], labels[:8], limit=8, eps_max=eps_max)
    assert report.n == 8
    assert sum(passes) <= PASSES * 8
    assert report.effort_ratio == 1.0
    assert not report.masked, report.reasons


def test_ratios_to_infinite_radii_are_reported_without_a_number():
    names = [name for name, _, _ in SIGNS] + ["silent_cross_entropy", "random_ratio"]
    healthy = dict.fromkeys(names, 0.0) | {"bf16_cosine": 1.0}
    report = _report(n=4, **healthy)  # radii by the cross-entropy and by more effort, over infinite ones
    assert "more steps and restarts find perturbations where fewer find none" in report.reasons
    assert "the cross-entropy finds perturbations where the margin finds none" in report.reasons
    assert "0.00" not in " ".join(report.reasons)
