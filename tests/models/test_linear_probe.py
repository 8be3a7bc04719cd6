"""The last linear layer, fitted to frozen features: the minimum of a convex problem, and reproducible."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harmonizer
from harmonizer.models import build_model
from harmonizer.models.linear_probe import STRENGTHS, fit_probe, last_linear

CLASSES = 4


def pictures(count, seed):
    """Make noise in which the brighter channel, or none, is the class; labels cycle through the classes."""
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 0.8
    labels = torch.arange(count) % CLASSES
    for image, label in zip(images, labels.tolist(), strict=True):
        image[label : label + 1] += 0.2
    return images, labels


TRAINING, VALIDATION = pictures(200, 1), pictures(80, 2)


def in_batches(images, labels, size=32):
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size)]


def features_of(model, images):
    """Compute the input of the head, independently of the probe's code."""
    backbone = model.backbone
    return backbone.forward_head(backbone.forward_features((images - model.mean) / model.std), pre_logits=True)


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    model = build_model("test_vit", num_classes=CLASSES, image_size=32).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    return model, before, fit_probe(model, in_batches(*TRAINING))


def test_the_head_is_at_the_minimum_of_the_stated_objective(fitted):
    model, _, details = fitted
    with torch.no_grad():
        features = features_of(model, TRAINING[0]).double()
    mean, std = features.mean(0), features.std(0)
    head = model.backbone.head
    weights = (head.weight.double() * std).detach().requires_grad_()
    biases = (head.bias.double() + head.weight.double() @ mean).detach().requires_grad_()
    logits = (features - mean) / std @ weights.T + biases
    objective = F.cross_entropy(logits, TRAINING[1]) + details["probe_l2"] / 2 * weights.square().sum()
    slopes = torch.autograd.grad(objective, (weights, biases))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-5
    other = F.cross_entropy(logits * 1.1, TRAINING[1]) + details["probe_l2"] / 2 * (1.1 * weights).square().sum()
    assert other > objective


def test_only_the_head_changes_and_it_separates_the_classes(fitted):
    model, before, details = fitted
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"backbone.head.weight", "backbone.head.bias"}
    with torch.no_grad():
        accuracy = (model(VALIDATION[0]).argmax(1) == VALIDATION[1]).double().mean()
    assert accuracy > 0.9  # chance: 0.25
    assert details["probe_fitted"] == 200 and details["probe_l2"] in STRENGTHS
    assert model.architecture.described_head() == {"head": "probe", **details}
    assert "head" not in model.architecture.plain()  # training from it makes a new head


def test_the_penalty_has_the_lowest_held_out_cross_entropy(monkeypatch):
    images, labels = TRAINING
    noisy = torch.where(torch.arange(200) % 7 == 0, labels.roll(1), labels)  # too weak a penalty fits these as well
    batches, losses = in_batches(images, noisy), {}
    for strength in STRENGTHS:
        torch.manual_seed(0)
        model = build_model("test_vit", num_classes=CLASSES, image_size=32).eval()
        monkeypatch.setattr("harmonizer.models.linear_probe.STRENGTHS", (strength,))
        losses[strength] = fit_probe(model, batches)["probe_held_out_cross_entropy"]
    monkeypatch.undo()
    torch.manual_seed(0)
    found = fit_probe(build_model("test_vit", num_classes=CLASSES, image_size=32), batches)
    assert STRENGTHS[0] > found["probe_l2"] > STRENGTHS[-1]
    assert losses[found["probe_l2"]] == min(losses.values())
    assert found["probe_held_out_cross_entropy"] == pytest.approx(min(losses.values()), rel=1e-4)


def test_the_same_images_give_the_same_probe(fitted):
    model, before, details = fitted
    again = build_model("test_vit", num_classes=CLASSES, image_size=32)
    again.load_state_dict(before)
    modes = [module.training for module in again.modules()]
    assert fit_probe(again, in_batches(*TRAINING)) == details
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert [module.training for module in again.modules()] == modes


def test_a_probed_model_is_attacked_and_has_saliency():
    model = harmonizer.load("test_resnet", image_size=32, probe=TRAINING)
    images, labels = VALIDATION[0][:16], VALIDATION[1][:16]
    found = harmonizer.evaluate(model, (images, labels, torch.rand(16, 32, 32)), attack="pgd", progress=False)
    attacked = [row for row in found.rows if row.status != 0]
    assert len(attacked) >= 8 and all(row.l2 > 0 for row in attacked)
    assert all(row.feature_alignment == row.feature_alignment for row in found.rows)
    said = found.summary["model"]
    assert (said["head"], said["probe_fitted"], len(said["probe_data"][0])) == ("probe", 200, 64)


class Scaled(nn.Module):
    size = 32

    def __init__(self, num_classes=CLASSES):
        super().__init__()
        self.layer = nn.Linear(3, 8)
        self.texts = nn.Linear(8, num_classes)

    def forward(self, images):
        return 10 * self.texts(self.layer(images.mean((2, 3))))


def test_a_model_without_a_last_linear_layer_is_refused():
    with pytest.raises(ValueError, match="expected the logits of the model to be those of its last linear layer"):
        fit_probe(harmonizer.wrap(Scaled(), size=32), in_batches(*TRAINING))
    with pytest.raises(ValueError, match="expected a last linear layer with a bias in squeeze"):
        last_linear(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()), "squeeze")


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_images_or_classes_are_refused(count):
    model = build_model("test_vit", num_classes=CLASSES, image_size=32)
    images, labels = TRAINING[0][:count], TRAINING[1][:count]
    with pytest.raises(ValueError, match=f"expected 5 or more images of two classes to fit a probe to, got {count}"):
        fit_probe(model, in_batches(images, labels))
    with pytest.raises(ValueError, match="two classes"):
        fit_probe(model, in_batches(TRAINING[0][:8], torch.zeros(8, dtype=torch.int64)))


def test_num_classes_must_cover_the_labels_of_the_probe():
    settings = {"image_size": 32, "seed": 0}
    with pytest.raises(ValueError, match="expected labels below 3, the number of classes, got 3"):
        harmonizer.load("test_vit", num_classes=3, probe=TRAINING, **settings)
    assert harmonizer.load("test_vit", num_classes=6, probe=TRAINING, **settings)(VALIDATION[0]).shape == (80, 6)
    with pytest.raises(ValueError, match="expected num_classes=10, as the probe's images have, got 12"):
        harmonizer.load("test_vit", num_classes=12, probe="demo", **settings)


def test_torchvision_models_get_a_probe():
    assert harmonizer.load("torchvision:resnet18", image_size=32, probe=TRAINING).architecture.head == "probe"
