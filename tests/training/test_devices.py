"""Which device is chosen, and that training and evaluation keep all tensors on their device."""

import copy
import logging

import pytest
import torch
from fake_device import back, moved, pretended, to
from lightning.pytorch.accelerators import CPUAccelerator, MPSAccelerator

from harmonizer.attacks import diagnostics, gradient_masking_report, minimal_radius
from harmonizer.data.batch import Batch
from harmonizer.metrics import AdversarialAlignment, FeatureAlignment, PerturbationTolerance
from harmonizer.models import evaluation_saliency
from harmonizer.training.double_backward import logits_and_gradient
from harmonizer.training.losses import agreement_loss, classification_loss
from harmonizer.training.module import HarmonizerModule
from harmonizer.training.trainer import build_trainer

QUIET = {"logger": False, "enable_checkpointing": False}


def test_an_apple_gpu_is_not_chosen_automatically(monkeypatch, caplog):
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    with caplog.at_level(logging.WARNING):
        trainer = build_trainer(**QUIET)
    assert isinstance(trainer.accelerator, CPUAccelerator)
    assert "running on the CPU: Apple's GPUs lack float64" in caplog.text


@pytest.mark.parametrize("accelerator", ["mps", "gpu"])
def test_a_requested_apple_gpu_is_refused_with_a_remedy(accelerator, monkeypatch):
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    with pytest.raises(ValueError, match=f"accelerator={accelerator}.*use trainer.accelerator=cpu"):
        build_trainer(accelerator=accelerator, **QUIET)


def test_without_an_apple_gpu_nothing_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: False))
    assert build_trainer(max_epochs=3, **QUIET).max_epochs == 3
    assert "float64" not in caplog.text


MODELS = "test_resnet", "test_vit", "test_efficientnet", "test_convnext"
SETTINGS = (
    {},
    {"saliency_batch": "split"},
    {"saliency_batch": "joint", "checkpoint_gradients": True},
    {"level_metric": "contrastive", "std": "unbiased"},
    {"level_metric": "masked_bce", "saliency_of": "log_odds"},
    {"top_k": 0.3, "scale_match": "original", "gradient_penalty": 0.1},
    {"saliency_reduction": ["mean", "l2", "absmax", "absmean"], "scale_match": "attached"},
)
HAS_MAP = torch.tensor([True, False, True, True, False, True])


def samples(size):
    """Return six images (6,3,size,size), labels and human maps; one map is constant, one has ties."""
    generator = torch.Generator().manual_seed(0)
    human = torch.rand(6, size, size, generator=generator)
    human[0], human[1] = 0.5, (8 * human[1]).round()
    return torch.rand(6, 3, size, size, generator=generator), torch.arange(6) % 4, human


def step(module, put):
    """Return the loss and all gradients of a training step."""
    images, labels, human = samples(64)
    batch = Batch(put(images), put(labels), put(human), put(HAS_MAP), list("abcdef"))
    module.train()
    settings = module.loss_settings
    logits, gradient = logits_and_gradient(module.model, batch, joint=module.joint, score=settings.saliency_of)
    classified = classification_loss(logits, batch, label_smoothing=settings.label_smoothing)
    loss = classified + agreement_loss(gradient, batch, settings)
    loss.backward()
    return [loss, *(parameter.grad for parameter in module.parameters() if parameter.grad is not None)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_stays_on_its_device(name, settings):
    torch.manual_seed(0)
    here = HarmonizerModule(name, ["a", "b", "c", "d"], 64, harmonize=True, **settings)
    there = copy.deepcopy(here)
    there.model = moved(here.model)
    expected = step(here, lambda tensor: tensor)
    with pretended():
        found = [back(value) for value in step(there, to)]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


FEWER = {"ddn": {"steps": 20}, "ddn_full": {"steps": 20, "targets": 3, "refined": 2}}  # passes: the device is slow


@pytest.mark.parametrize("attack", ["linsley2023", "linsley2023_as_published", "pgd", "ddn", "ddn_full"])
def test_an_attack_and_the_metrics_stay_on_their_device(attack):
    torch.manual_seed(0)
    model = HarmonizerModule("test_resnet", ["a", "b", "c", "d"], 64, harmonize=False).model.eval().double()
    expected = measured(model, attack, lambda tensor: tensor)
    with pretended():
        found = {name: back(value) for name, value in measured(moved(model), attack, to).items()}
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5, equal_nan=True)


def measured(model, attack, put):
    """Attack a model and return radii, maps and scores."""
    images, _, human = samples(32)
    images, human, has_map = put(images.double()), put(human), put(HAS_MAP)  # in float64, rounding changes no decision
    labels = model(images).argmax(1).detach()
    result = minimal_radius(model, images, labels, attack=attack, **FEWER.get(attack, {}))
    saliency = evaluation_saliency(model, images, labels)
    tolerance, alignment, agreement = PerturbationTolerance(), AdversarialAlignment(), FeatureAlignment()
    metrics = {"tolerance": tolerance, "alignment": alignment, "saliency": agreement}
    for metric in metrics.values():
        metric.to(images.device)
    tolerance.update(result.status, result.l2, list("abcdef"))
    alignment.update(result.adversarial, images, human, status=result.status, has_map=has_map)
    agreement.update(saliency, human, has_map=has_map)
    scores = {f"{kind} {name}": value for kind, metric in metrics.items() for name, value in metric.compute().items()}
    return {"radius": result.l2, "maps": saliency} | scores


def test_the_gradient_masking_report_stays_on_its_device(monkeypatch):
    monkeypatch.setattr(diagnostics, "EFFORT", diagnostics.EFFORT | {"steps": 5, "restarts": 2})
    monkeypatch.setattr(diagnostics, "RANDOM_DIRECTIONS", 2)
    torch.manual_seed(0)
    model = HarmonizerModule("test_resnet", ["a", "b", "c", "d"], 64, harmonize=False).model.eval().double()
    images = samples(32)[0].double()
    labels = model(images).argmax(1).detach()
    expected = gradient_masking_report(model, images, labels, limit=2).as_dict()
    with pretended():
        found = gradient_masking_report(moved(model), to(images), to(labels), limit=2).as_dict()
    assert found == {name: pytest.approx(value, rel=1e-3, nan_ok=True) for name, value in expected.items()}


def test_the_fake_device_detects_mixed_devices():
    with pretended():
        there = to(torch.rand(3, 3))
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.rand(3, 3)
        number = torch.tensor(2.0)
        for mix in (
            lambda: there.__setitem__(there > 0.5, torch.rand(3)),
            lambda: torch.stack([there[0, 0], number]),
            lambda: number.add_(there[0, 0]),
            lambda: there.gather(0, torch.zeros(1, 1, dtype=torch.int64)),
            lambda: there.index_select(0, torch.tensor(1)),
        ):
            with pytest.raises(RuntimeError, match="two devices"):
                mix()
        assert back(number * there).shape == (3, 3)
        with pytest.raises(RuntimeError, match="indices on a device"):
            torch.rand(3, 3)[there > 0.5]
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, generator=torch.Generator(), device=there.device)
        assert isinstance(there.cpu() + torch.rand(3, 3), torch.Tensor)
        assert back(there[torch.tensor([0])] * 2).shape == (1, 3)
