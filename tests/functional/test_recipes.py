"""Each recipe's loss and parameter gradients, against a second computation written from its table row.

The second computation shares no code with the first. It takes one sample at a time, computes each saliency as a
Jacobian of its own, the pyramid by dense matrices, and the gradients of the parameters by ``torch.func``.
"""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.func import functional_call, grad_and_value, jacrev

from harmonizer.data.batch import Batch
from harmonizer.functional import harmonizer_loss, input_saliency
from harmonizer.functional.saliency import class_score, input_gradient
from harmonizer.training.losses import agreement_loss
from harmonizer.training.optim import build_schedule
from harmonizer.training.settings import LossSettings, OptimSettings, split_settings

RECIPES = Path(__file__).parents[2] / "configs" / "recipe"
# Pyramid terms, Bessel's correction, std epsilon, scale epsilon, epsilon on max S, gradient through max S, lambda.
ROWS = {
    "fel2022": (5, 0, 1e-5, 1e-6, 1e-6, False, 1.0),
    "fel2022_original": (6, 0, 1e-5, 1e-4, 0.0, False, 2.0),
    "pseudo2023": (5, 1, 1e-6, 1e-6, 1e-6, True, 1.0),
}
SIZES = {"even": (3, 40, 24), "odd": (2, 33, 17)}


def settings_of(recipe):
    """Return the settings of a recipe's loss and optimiser, with a learning rate of 0.5."""
    values = OmegaConf.merge(OmegaConf.load(RECIPES / f"{recipe}.yaml"), {"lr": 0.5})
    names = {field.name for kind in (LossSettings, OptimSettings) for field in fields(kind)}
    return split_settings({name: value for name, value in OmegaConf.to_container(values).items() if name in names})


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 4)).double()


def batch(count, height, width):
    rng = np.random.default_rng(1)
    images, human = rng.random((count, 3, height, width)), rng.random((count, height, width)) ** 4
    has_map = torch.tensor([True, False, True][:count])
    return torch.from_numpy(images), torch.arange(count), torch.from_numpy(human), has_map


def shrink(length):
    """Return the matrix (ceil(n/2), n) that blurs with [1,4,6,4,1]/16 and takes every other value; zeros outside."""
    out = (length + 1) // 2
    before = max((out - 1) * 2 + 5 - length, 0) // 2
    matrix = torch.zeros(out, length, dtype=torch.float64)
    for i in range(out):
        for tap, weight in enumerate((1, 4, 6, 4, 1)):
            if 0 <= 2 * i + tap - before < length:
                matrix[i, 2 * i + tap - before] = weight / 16
    return matrix


def distance(saliency, human, row):
    """Return the loss (sum over the levels' means) of one sample from its maps (H,W)."""
    terms, correction, std_epsilon, scale_epsilon, saliency_epsilon, attached, _ = row
    cut = []
    for single in (saliency, human):
        deviation = single.flatten().var(correction=correction) ** 0.5
        cut.append(((single - single.mean()) / (deviation + std_epsilon)).clamp_min(0))
    largest = cut[0].max() if attached else cut[0].max().detach()
    difference = cut[0] - cut[1] / (cut[1].max() + scale_epsilon) * (largest + saliency_epsilon)
    total = difference.square().mean()
    for _ in range(terms - 1):  # the pyramid is linear: shrink the difference
        height, width = difference.shape
        difference = shrink(height) @ difference @ shrink(width).T
        total = total + difference.square().mean()
    return total


def second_computation(model, images, labels, human, has_map, row):
    """Return the harmonizer loss and its gradients by parameter name."""

    def loss(parameters):
        total = 0.0
        for image, label, single, mapped in zip(images, labels, human, has_map, strict=True):
            if mapped:
                logit = lambda pixels, y=label: functional_call(model, parameters, (pixels[None],))[0, y]  # noqa: E731
                total = total + distance(jacrev(logit)(image).mean(0), single, row) / row[0]
        return total / len(images)

    gradients, value = grad_and_value(loss)({name: p.detach() for name, p in model.named_parameters()})
    return value, gradients


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("recipe", ROWS)
def test_loss_and_gradients_equal_a_second_computation_to_1e_9(recipe, size):
    settings = OmegaConf.load(RECIPES / f"{recipe}.yaml")
    assert settings.harmonizer_weight == ROWS[recipe][-1]
    model, (images, labels, human, has_map) = network(), batch(*SIZES[size])
    leaf = images.clone().requires_grad_()
    reduction = settings.saliency_reduction
    saliency = input_saliency(model(leaf), leaf, labels, reduction=reduction, create_graph=True)
    chosen = {name: settings[name] for name in ("levels", "std", "scale_match", "top_k")}
    loss = harmonizer_loss(saliency, human, has_map, metric=settings.level_metric, **chosen)
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)

    value, expected = second_computation(model, images, labels, human, has_map, ROWS[recipe])
    torch.testing.assert_close(loss.detach(), value, rtol=1e-9, atol=0)
    for name, gradient in zip(parameters, gradients, strict=True):
        gradient = torch.zeros_like(expected[name]) if gradient is None else gradient
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12, msg=name)
    assert sum(bool(gradient.any()) for gradient in expected.values()) >= 4


def test_modern_loss_equals_a_second_computation_to_1e_9():
    settings, _ = settings_of("modern")
    model, (images, labels, human, has_map) = network(), batch(*SIZES["even"])
    parameters = dict(model.named_parameters())
    leaf = images.clone().requires_grad_()
    gradient = input_gradient(class_score(model(leaf), labels, settings.saliency_of), leaf, create_graph=True)
    samples = Batch(images, labels, human, has_map, ["a", "b", "c"])
    loss = agreement_loss(gradient, samples, settings)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)

    def second(values):
        total = 0.0
        for image, label, single in zip(images[has_map], labels[has_map], human[has_map], strict=True):

            def log_odds(pixels, y=label):
                share = functional_call(model, values, (pixels[None],))[0].softmax(0)[y]
                return (share / (1 - share)).log()

            slope = jacrev(log_odds)(image)
            row = ROWS["fel2022"]
            maps = (slope[0] + slope[1] + slope[2]) / 3, (slope[0] ** 2 + slope[1] ** 2 + slope[2] ** 2) ** 0.5
            total = total + sum(distance(saliency, single, row) for saliency in maps) / (2 * row[0])
            total = total + 0.02 * (slope**2).sum()
        return total / len(images)

    expected, value = grad_and_value(second)({name: p.detach() for name, p in parameters.items()})
    torch.testing.assert_close(loss.detach(), value, rtol=1e-9, atol=0)
    for name, found in zip(parameters, gradients, strict=True):
        found = torch.zeros_like(expected[name]) if found is None else found
        torch.testing.assert_close(found, expected[name], rtol=1e-9, atol=1e-12, msg=name)


def test_the_three_recipes_have_different_losses():
    model, (images, labels, human, has_map) = network(), batch(*SIZES["even"])
    results = [second_computation(model, images, labels, human, has_map, row) for row in ROWS.values()]
    values = [float(value) for value, _ in results]
    slopes = [float(gradients["2.weight"].norm()) for _, gradients in results]
    for numbers in (values, slopes):
        assert min(abs(a / b - 1) for i, a in enumerate(numbers) for b in numbers[:i]) > 1e-5


def rates(recipe, epochs):
    """Return the learning rate at the start of each epoch, relative to the recipe's base rate."""
    _, settings = settings_of(recipe)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = build_schedule(optimizer, settings, epochs=epochs, updates_per_epoch=4)
    found = []
    for epoch in range(epochs):
        schedule.step_update(4 * epoch)
        found.append(optimizer.param_groups[0]["lr"] / 0.5)
    return found


def test_published_schedules_decay_at_the_published_epochs():
    original = rates("fel2022_original", 200)
    assert original[:5] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])  # warm-up
    for epochs, rate in ((range(5, 30), 1), (range(30, 60), 0.1), (range(60, 80), 0.01), (range(80, 200), 0.001)):
        assert [original[epoch] for epoch in epochs] == pytest.approx([rate] * len(epochs))
    later = rates("pseudo2023", 90)
    assert later == pytest.approx([1.0] * 30 + [0.1] * 30 + [0.01] * 30)


def test_fel2022_original_has_the_settings_of_its_table_row():
    settings = OmegaConf.load(RECIPES / "fel2022_original.yaml")
    assert (settings.optimizer, settings.momentum, settings.schedule) == ("sgd", 0.9, "multistep")
    assert (settings.warmup_epochs, list(settings.milestones), settings.decay_rate) == (5, [30, 60, 80], 0.1)
    assert (settings.epochs, settings.batch_size, list(settings.crop_scale)) == (200, 1024, [0.08, 1.0])


def test_pseudo2023_has_the_settings_of_its_table_row():
    settings = OmegaConf.load(RECIPES / "pseudo2023.yaml")
    assert (settings.schedule, settings.decay_epochs, settings.decay_rate) == ("step", 30, 0.1)
    assert (list(settings.crop_scale), settings.flip, settings.rotation) == ([0.9, 1.0], 0.5, 15)
