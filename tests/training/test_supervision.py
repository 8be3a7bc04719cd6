"""Explanation-supervision baselines: losses and parameter gradients against a second computation.

The second computation shares no code with the first. It takes one image at a time, writes out the network, computes
each gradient as a Jacobian of its own, and the gradients of the parameters by ``torch.func``.
"""

from dataclasses import fields

import hydra
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.func import grad_and_value, jacrev

import train
from configs.build import build
from harmonizer.attacks.noise import Noise
from harmonizer.data.batch import Batch
from harmonizer.export.card import model_card
from harmonizer.functional.supervision import activation_map_loss, mask_lowest, right_reasons_loss
from harmonizer.models import PixelModel, build_model
from harmonizer.models.activation_map import check_activation_map
from harmonizer.results.families import condition, trained_family
from harmonizer.training import double_backward
from harmonizer.training.losses import batch_losses
from harmonizer.training.settings import LossSettings
from harmonizer.training.steps import step_passes
from harmonizer.training.supervision import mean_images

CLASSES, SIZE, PIXELS = 4, 16, 256
BASELINES = ("rrr", "sgt", "pag", "cyborg")


def compose(*words):
    with hydra.initialize_config_module("configs", version_base="1.3"):
        return hydra.compose("train", ["harmonize=true", *words])


def settings_of(recipe):
    """Return the settings of a recipe's loss as the command line sets them."""
    names = {field.name for field in fields(LossSettings)}
    module = compose(f"recipe={recipe}").module
    return LossSettings(**{str(name): value for name, value in module.items() if name in names})


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 8, 3, padding=1), nn.Softplus()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
    return PixelModel(nn.Sequential(*layers, *head), (0.375,) * 3, (0.25,) * 3, second_order=True).double().train()


def features(values, image):
    """Return the network's last feature map (8,7,7)."""
    first = F.conv2d(((image - 0.375) / 0.25)[None], values["0.weight"], values["0.bias"], stride=2).tanh()
    return F.softplus(F.conv2d(first, values["2.weight"], values["2.bias"], padding=1))[0]


def logits(values, image):
    return values["6.weight"] @ features(values, image).mean((1, 2)) + values["6.bias"]


def batch():
    """Return four images: the second has no human map, the last a constant one."""
    rng = np.random.default_rng(1)
    human = rng.random((4, SIZE, SIZE)) ** 4
    human[3] = 0.5
    has_map = torch.tensor([True, False, True, True])
    images = torch.from_numpy(rng.random((4, 3, SIZE, SIZE)))
    return Batch(images, torch.tensor([0, 3, 2, 1]), torch.from_numpy(human), has_map, list("abcd"))


def class_images():
    return torch.from_numpy(np.random.default_rng(2).random((CLASSES, 3, SIZE, SIZE)))


def check(settings, second):
    """Compare a step's loss and gradients with a second computation, averaged over the images."""
    model, samples = network(), batch()
    plain, weight = samples.images.clone(), settings.harmonizer_weight
    parameters = dict(model.named_parameters())
    losses = batch_losses(model, samples, settings, factor=weight, class_means=class_images())
    gradients = torch.autograd.grad(losses["loss"], list(parameters.values()))

    def total(values):
        rows = zip(
            plain, samples.labels, samples.human_map, samples.has_map & (torch.arange(4) != 3), range(4), strict=True
        )
        extra = sum(second(values, *row) for row in rows) / len(plain)  # a constant map counts as none
        outputs = torch.stack([logits(values, image) for image in plain])
        return F.cross_entropy(outputs, samples.labels, label_smoothing=0.1) + weight * extra, extra

    leaves = {name.removeprefix("backbone."): value.detach() for name, value in parameters.items()}
    expected, (value, extra) = grad_and_value(total, has_aux=True)(leaves)
    torch.testing.assert_close(losses["supervision_loss"].detach(), extra, rtol=1e-9, atol=0)
    torch.testing.assert_close(losses["loss"].detach(), value, rtol=1e-9, atol=0)
    for name, gradient in zip(leaves, gradients, strict=True):
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-12, msg=name)
    assert extra > 1e-6


def test_right_reasons_equal_a_second_computation_to_1e_9():
    def second(values, image, label, human, told, number):
        slope = jacrev(lambda pixels: sum(torch.log(share) for share in logits(values, pixels).softmax(0)))(image)
        irrelevant = (human <= human.mean()) & told
        return sum(((slope[channel] * irrelevant) ** 2).sum() for channel in range(3))

    check(settings_of("rrr"), second)


def test_sgt_equals_a_second_computation_to_1e_9():
    noise = Noise(batch().images, batch().keys, 0).uniform("fill", (3, SIZE, SIZE))

    def second(values, image, label, human, told, number):
        constant = {name: value.detach() for name, value in values.items()}
        slope = jacrev(lambda pixels: logits(constant, pixels)[label])(image).sum(0)
        order = sorted(range(PIXELS), key=lambda at: float(slope.flatten()[at]))
        hidden = image.flatten(1).clone()
        for at in order[: PIXELS // 2]:
            for channel in range(3):
                low, high = image[channel].min(), image[channel].max()
                hidden[channel, at] = low + (high - low) * noise[number].flatten(1)[channel, at]
        one, other = (logits(values, pixels).softmax(0) for pixels in (image, hidden.view_as(image)))
        return (one * (one / other).log()).sum()

    check(settings_of("sgt"), second)


def test_aligned_gradients_equal_a_second_computation_to_1e_9():
    draws = Noise(batch().images, batch().keys, 0).uniform("target class")[:, 0]
    assert len({int(CLASSES * draw) for draw in draws}) > 1

    def second(values, image, label, human, told, number):
        target = int(CLASSES * draws[number])
        slope = jacrev(lambda pixels: logits(values, pixels)[target])(image).flatten()
        way = (class_images()[target] - image).flatten()
        return 1 - slope @ way / (slope.norm() * way.norm())

    check(settings_of("pag"), second)


def test_cyborg_equals_a_second_computation_to_1e_9():
    def unit(single):
        return (single - single.min()) / (single.max() - single.min())

    def second(values, image, label, human, told, number):
        maps = features(values, image)
        predicted = int((values["6.weight"] @ maps.mean((1, 2)) + values["6.bias"]).detach().argmax())
        activation = sum(values["6.weight"][predicted, channel] * maps[channel] for channel in range(8))
        small = F.interpolate(human[None, None], (7, 7), mode="bilinear", antialias=True)[0, 0]
        return (unit(activation) - unit(small)).square().mean() * told

    check(settings_of("cyborg"), second)


def test_human_maps_are_downsampled_as_by_pillow():
    human = torch.rand(1, 64, 48, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(human[0].numpy()).resize((6, 8), Image.Resampling.BILINEAR)
    small = torch.from_numpy(np.array(image))[None]
    assert activation_map_loss(small, human, torch.tensor([True])) < 1e-12
    assert activation_map_loss(small.flip(1), human, torch.tensor([True])) > 0.01


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("recipe", ["rrr", "cyborg"])
def test_supervision_without_a_map_is_a_plain_step(recipe, joint):
    blind = batch()._replace(has_map=torch.zeros(4, dtype=torch.bool))
    losses = batch_losses(network(), blind, settings_of(recipe), factor=1.0, joint=joint)
    assert losses["supervision_loss"] == 0
    assert losses["loss"] == losses["cross_entropy"]


def test_right_reasons_loss_ignores_the_human_region():
    human = torch.zeros(1, 4, 4)
    human[0, 1:3, 1:3] = 1
    gradient = torch.where(human[:, None] > 0, 7.0, 0.0).expand(1, 3, 4, 4)
    assert right_reasons_loss(gradient, human, torch.tensor([True])) == 0
    assert right_reasons_loss(gradient.roll(1, 2), human, torch.tensor([True])) > 0


def test_masking_replaces_only_the_least_salient_share():
    images = torch.rand(2, 3, 8, 8)
    saliency = torch.arange(64.0).reshape(1, 8, 8).repeat(2, 1, 1)
    masked = mask_lowest(images, saliency, torch.rand(2, 3, 8, 8), share=0.25)
    changed = (masked != images).any(1)
    assert changed[:, :2].all()
    assert not changed[:, 2:].any()
    assert torch.equal(masked.clamp(images.amin((2, 3), True), images.amax((2, 3), True)), masked)


def test_mean_images_are_averages_per_class():
    first, second = batch(), batch()._replace(labels=torch.tensor([0, 0, 1, 2]))
    means = mean_images([first, second], CLASSES)
    torch.testing.assert_close(means[0], (first.images[0] + second.images[0] + second.images[1]) / 3)
    with pytest.raises(ValueError, match=r"training images of each class for supervision=pag, got none for \[4\]"):
        mean_images([first], 5)


@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet_gn", "test_convnext", "test_vit"])
def test_activation_maps_require_a_net_that_averages_a_map(model):
    built = build_model(model, num_classes=CLASSES, image_size=64)
    if model in ("test_resnet", "test_efficientnet_gn"):
        check_activation_map(built, 64)
    else:  # a norm between the mean and the linear layer; a class token
        with pytest.raises(ValueError, match="last layer is linear on the mean of a map"):
            check_activation_map(built, 64)


def test_an_activation_map_of_one_position_is_refused():
    with pytest.raises(ValueError, match="several positions, got one at image_size=32; try larger images"):
        check_activation_map(build_model("test_resnet", num_classes=CLASSES, image_size=32), 32)


PAPERS = {
    "rrr": {"saliency_of": "log_probs", "harmonizer_weight": 0.01},
    "sgt": {"saliency_of": "logit", "saliency_reduction": ["mean"], "masked_share": 0.5, "harmonizer_weight": 1.0},
    "pag": {"saliency_of": "logit", "harmonizer_weight": 2.0},
    "cyborg": {"harmonizer_weight": 1.0},
}


@pytest.mark.parametrize("recipe", PAPERS)
def test_a_recipe_has_its_papers_settings_and_names_its_run(recipe):
    settings = settings_of(recipe)
    assert settings.supervision == recipe
    assert {name: getattr(settings, name) for name in PAPERS[recipe]} == PAPERS[recipe]
    config = compose(f"recipe={recipe}", "model=test_resnet")
    assert config.folder == f"runs/test_resnet/{recipe}/seed-0"
    trained = build(config.module, classes=["a", "b"], image_size=64).hparams
    assert (condition(trained), trained_family(trained)) == (recipe, "other supervision")
    assert condition(trained | {"harmonize": False}) == "control"
    assert f"with the explanation supervision `{recipe}`" in model_card(dict(trained), digest="", data={}, scores=None)


@pytest.mark.parametrize(("recipe", "error"), [("rrr", "no maps"), ("cyborg", "no maps"), ("sgt", "on"), ("pag", "on")])
def test_only_supervision_by_maps_requires_maps_in_the_data(recipe, error, monkeypatch):
    class Data:
        def require_maps(self):
            raise LookupError("no maps")

        @property
        def classes(self):
            raise LookupError("on")

    monkeypatch.setattr(train, "build", lambda config: Data())
    with pytest.raises(LookupError, match=error):
        train.fit(compose(f"recipe={recipe}"))


@pytest.mark.parametrize("recipe", BASELINES)
def test_step_passes_equals_the_passes_of_a_step(recipe, monkeypatch):
    counts = {"forward": 0, "gradient": 0}
    differentiate = double_backward.input_gradient

    def counted(*args, **kwargs):
        counts["gradient"] += 1
        return differentiate(*args, **kwargs)

    monkeypatch.setattr(double_backward, "input_gradient", counted)
    model, settings = network(), settings_of(recipe)
    model.backbone[0].register_forward_hook(lambda *_: counts.update(forward=counts["forward"] + 1))
    batch_losses(model, batch(), settings, factor=1.0, class_means=class_images())["loss"].backward()
    parameters = {"rrr": 4, "pag": 4, "sgt": 2 + 2, "cyborg": 2}[recipe]
    assert counts["forward"] + counts["gradient"] + parameters == step_passes(settings, harmonize=True)


@pytest.mark.parametrize("supervision", ["sgt", "pag", "cyborg"])
def test_supervision_with_extra_passes_refuses_adversarial(supervision):
    with pytest.raises(ValueError, match=f"expected adversarial none with supervision={supervision}.* got pgd"):
        LossSettings(supervision=supervision, adversarial="pgd")
    LossSettings(supervision="rrr", adversarial="pgd")
