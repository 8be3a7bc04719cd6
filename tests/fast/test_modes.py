"""The fast path's switch: training steps and attacks have the values of torch's own layers in each mode."""

import pytest
import torch
import torch.nn.functional as F

from harmonizer.attacks import minimal_radius
from harmonizer.data.batch import Batch
from harmonizer.fast import fast
from harmonizer.models import build_model
from harmonizer.training.double_backward import has_batch_statistics, logits_and_gradient

NETWORKS = ("test_resnet", "test_efficientnet_gn", "test_vit", "test_convnext", "mobilenetv3_small_050")
SIZE = 32


def network(name):
    torch.manual_seed(0)
    model = build_model(name, num_classes=4, image_size=SIZE, second_order=True).double()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def batch_of(model):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(5, 3, SIZE, SIZE, generator=generator).double()
    labels, has_map = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([True, False, True, False, True])
    human = torch.rand(5, SIZE, SIZE, generator=generator).double()
    return Batch(images=images, labels=labels, human_map=human, has_map=has_map, keys=list("abcde"))


def step(model, batch):
    """Return the logits, and the gradients of cross-entropy plus a nonlinear function of the saliency."""
    model.train().zero_grad()
    logits, gradient = logits_and_gradient(model, batch, joint=has_batch_statistics(model))
    (F.cross_entropy(logits, batch.labels) + gradient.mean(1).square().sum()).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return {"logits": logits.detach()} | gradients


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("mode", [mode for mode in fast.modes if mode != "off"])
def test_a_training_step_equals_that_of_torchs_layers(name, mode):
    batch = batch_of(network(name))
    found = {}
    for each in ("off", mode):
        with fast(each):
            found[each] = step(network(name), batch)
    scale = max(float(value.norm()) for value in found["off"].values())
    for key, expected in found["off"].items():
        torch.testing.assert_close(found[mode][key], expected, rtol=1e-7, atol=1e-9 * scale)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("mode", fast.modes)
def test_an_attack_finds_the_same_radii_in_each_mode(name, mode):
    model = network(name).float().eval()
    images = batch_of(model).images.float()
    labels = model(images).argmax(1)
    with fast("off"):
        expected = minimal_radius(model, images, labels, attack="linsley2023", keys=list("abcde"))
    with fast(mode):
        found = minimal_radius(model, images, labels, attack="linsley2023", keys=list("abcde"))
    assert torch.equal(found.status, expected.status)
    # Below a radius of 1, the bisection stops at a bracket of 0.01.
    torch.testing.assert_close(found.l2, expected.l2, rtol=2e-2, atol=1e-4, equal_nan=True)


def test_the_mode_is_global_and_a_context_restores_it():
    assert fast.mode == "auto"
    fast.set("off")
    try:
        assert fast.mode == "off"
        with fast("core"):
            assert fast.mode == "core"
        assert fast.mode == "off"
    finally:
        fast.set("auto")


@pytest.mark.parametrize("choose", [fast.set, lambda mode: fast(mode).__enter__()])
def test_an_unknown_mode_is_refused_and_known_ones_listed(choose):
    with pytest.raises(ValueError, match="expected fast to be one of auto, core, off, got 'on'"):
        choose("on")
    assert fast.mode == "auto"
