"""Baselines of explanation supervision: losses and parameter gradients against a second computation.

The second computation shares no code with the first: one image at a time, each gradient a Jacobian of its own, the
parameters' gradients by ``torch.func``.
"""

from dataclasses import fields

import hydra
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad_and_value, jacrev

from configs.build import build
from harmonizer.data.batch import Batch
from harmonizer.functional.supervision import right_reasons_loss
from harmonizer.models import PixelModel
from harmonizer.results.families import condition, trained_family
from harmonizer.training.losses import batch_losses
from harmonizer.training.settings import LossSettings

CLASSES, SIZE = 4, 16


def compose(*words):
    with hydra.initialize_config_module("configs", version_base="1.3"):
        return hydra.compose("train", ["harmonize=true", *words])


def settings_of(recipe):
    """The settings of a recipe's loss, as the command line gives them."""
    names = {field.name for field in fields(LossSettings)}
    module = compose(f"recipe={recipe}").module
    return LossSettings(**{str(name): value for name, value in module.items() if name in names})


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 8, 3, padding=1), nn.Softplus()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
    return PixelModel(nn.Sequential(*layers, *head), (0.375,) * 3, (0.25,) * 3, second_order=True).double().train()


def batch():
    """Four images, the second without a map, the last with a constant one."""
    rng = np.random.default_rng(1)
    human = rng.random((4, SIZE, SIZE)) ** 4
    human[3] = 0.5
    has_map = torch.tensor([True, False, True, True])
    images = torch.from_numpy(rng.random((4, 3, SIZE, SIZE)))
    return Batch(images, torch.arange(4), torch.from_numpy(human), has_map, list("abcd"))


def check(settings, second, **given):
    """Compare a step's loss and gradients with the mean over the images of a second computation."""
    model, samples = network(), batch()
    plain = samples.images.clone()
    parameters = dict(model.named_parameters())
    losses = batch_losses(model, samples, settings, factor=settings.harmonizer_weight, **given)
    gradients = torch.autograd.grad(losses["loss"], list(parameters.values()))

    def total(values):
        def logits(image):
            return functional_call(model.backbone, values, (((image - 0.375) / 0.25)[None],))[0]

        pairs = zip(plain, samples.labels, samples.human_map, samples.has_map, range(len(plain)), strict=True)
        parts = [second(logits, *pair) for pair in pairs]
        plain_loss = F.cross_entropy(
            torch.stack([logits(image) for image in plain]), samples.labels, label_smoothing=0.1
        )
        extra = sum(parts) / len(parts)
        return plain_loss + settings.harmonizer_weight * extra, extra

    leaves = {name.removeprefix("backbone."): value.detach() for name, value in parameters.items()}
    expected, (value, extra) = grad_and_value(total, has_aux=True)(leaves)
    torch.testing.assert_close(losses["supervision_loss"], extra, rtol=1e-9, atol=0)
    torch.testing.assert_close(losses["loss"].detach(), value, rtol=1e-9, atol=0)
    for name, gradient in zip(leaves, gradients, strict=True):
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-11, msg=name)
    assert extra > 1e-6


def test_right_reasons_equal_a_second_computation_to_1e_9():
    def second(logits, image, label, human, mapped, number):
        slope = jacrev(lambda pixels: sum(torch.log(share) for share in logits(pixels).softmax(0)))(image)
        irrelevant = (human <= human.mean()) & mapped & (number != 3)  # a constant map tells nothing
        return sum(((slope[channel] * irrelevant) ** 2).sum() for channel in range(3))

    check(settings_of("rrr"), second)


@pytest.mark.parametrize("joint", [True, False])
def test_right_reasons_without_a_map_are_a_plain_step(joint):
    blind = batch()._replace(has_map=torch.zeros(4, dtype=torch.bool))
    losses = batch_losses(network(), blind, settings_of("rrr"), factor=1.0, joint=joint)
    assert losses["supervision_loss"] == 0
    assert losses["loss"] == losses["cross_entropy"]


def test_right_reasons_take_no_gradient_where_people_looked():
    human = torch.zeros(1, 4, 4)
    human[0, 1:3, 1:3] = 1
    gradient = torch.where(human[:, None] > 0, 7.0, 0.0).expand(1, 3, 4, 4)
    assert right_reasons_loss(gradient, human, torch.tensor([True])) == 0
    assert right_reasons_loss(gradient.flip(2).roll(1, 2), human, torch.tensor([True])) > 0


@pytest.mark.parametrize(
    ("recipe", "values"), [("rrr", {"supervision": "rrr", "saliency_of": "log_probs", "harmonizer_weight": 1000.0})]
)
def test_a_recipe_is_its_papers(recipe, values):
    settings = settings_of(recipe)
    assert {name: getattr(settings, name) for name in values} == values


@pytest.mark.parametrize("recipe", ["rrr"])
def test_the_recipe_names_folder_and_family(recipe):
    config = compose(f"recipe={recipe}", "model=test_resnet")
    assert config.folder == f"runs/test_resnet/{recipe}/seed-0"
    settings = build(config.module, classes=["a", "b"], image_size=32).hparams
    assert (condition(settings), trained_family(settings)) == (recipe, "other supervision")
    assert condition(settings | {"harmonize": False}) == "control"
