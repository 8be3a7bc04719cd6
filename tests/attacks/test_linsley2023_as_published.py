"""The replayed defects of the published code, each against a separate computation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harmonizer.attacks import Status, minimal_radius
from harmonizer.models import PixelModel
from harmonizer.statistics import as_published_summary

NAME = "linsley2023_as_published"
EPS = 10.0
LONGEST = 3 * (0.5 + EPS)


def loop(answer, image, label, bounds=(0.0, 1.0)):
    """Run the published search with the additive step on one image; return (status, eps, perturbation)."""

    def attack(eps):
        moved = image
        for _ in range(3):
            leaf = moved.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(answer(leaf[None]), label[None]), leaf)
            moved = moved + 0.5 * gradient / gradient.norm()
            offset = moved - image
            moved = (moved + eps * offset / offset.norm()).clamp(*bounds)
        return answer(moved[None]).argmax() != label, moved - image

    if answer(image[None]).argmax() != label:
        return Status.WRONG, None, None
    fooled, offset = attack(EPS)
    if not fooled:
        return Status.CENSORED, None, None
    best = (EPS, offset)
    fooled, offset = attack(1.0)
    best = (1.0, offset) if fooled else best
    low, high, width = (0.001, 1.0, 0.01) if fooled else (1.0, EPS, 0.1)
    while high - low > width:
        middle = (low + high) / 2
        fooled, offset = attack(middle)
        low, high = (low, middle) if fooled else (middle, high)
        best = (middle, offset) if fooled else best
    return Status.FOUND, *best


@pytest.fixture
def batch(golden, golden_net):
    """The golden network with an input normalisation, and a mini-batch that does not span [0,1]."""
    images = golden["images"].double() * 0.7 + 0.1
    model = PixelModel(golden_net.double(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).double()
    return model, images


def test_minmax_equals_the_loop_without_normalisation(batch):
    model, images = batch
    scaled = (images - images.min()) / (images.max() - images.min())
    labels = model.backbone(scaled).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    result = minimal_radius(model, images, labels, attack=NAME, batch_size=5)
    for i in range(len(images)):
        status, eps, offset = loop(model.backbone, scaled[i], labels[i])
        assert result.status[i] == status
        if status == Status.FOUND:
            assert result.eps[i] == eps
            torch.testing.assert_close(result.adversarial[i] - images[i], offset, rtol=1e-9, atol=1e-12)
            assert result.l2[i].item() == pytest.approx(float(offset.norm()), rel=1e-9)
    assert (result.status == Status.FOUND).sum() > 5


def test_standardized_equals_the_loop_in_units_of_mean_and_std(batch):
    model, images = batch
    units = (images - model.mean) / model.std
    labels = model(images).argmax(1)
    result = minimal_radius(model, images, labels, attack=NAME, scaling="standardized")
    low, high = (-model.mean / model.std)[0], ((1 - model.mean) / model.std)[0]
    for i in range(4):
        status, eps, offset = loop(model.backbone, units[i], labels[i], bounds=(low, high))
        assert result.status[i] == status
        if status == Status.FOUND:
            assert result.eps[i] == eps
            torch.testing.assert_close(result.adversarial[i] - images[i], offset, rtol=1e-9, atol=1e-12)


class Stubborn(nn.Module):
    """Fooled only at large radii: the true logit is larger until the mean falls by 0.2, an L2 norm of 22 at 64 px."""

    def forward(self, images):
        mean = images.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(mean), 20 * (mean - 0.7)], 1)


def test_published_steps_exceed_eps_corrected_ones_do_not(golden, golden_net):
    images, labels = torch.full((2, 3, 64, 64), 0.9).double(), torch.ones(2, dtype=torch.int64)
    images[0, 0, 0, 0], images[1, 0, 0, 1] = 0.0, 1.0  # the mini-batch spans [0,1]
    published = minimal_radius(Stubborn(), images, labels, attack=NAME)
    assert (published.status == Status.FOUND).all()
    assert (published.l2 > 1.5 * published.eps).all()
    assert (published.l2 <= 3 * (0.5 + published.eps)).all()
    assert EPS < published.l2.max() <= LONGEST  # above what eps allows
    corrected = minimal_radius(Stubborn(), images, labels, attack="linsley2023")
    assert (corrected.status == Status.CENSORED).all()
    images, labels = golden["images"].double(), golden["labels"]
    corrected, published = (
        minimal_radius(golden_net.double(), images, labels, attack=attack) for attack in ("linsley2023", NAME)
    )
    found = (corrected.status == Status.FOUND) & (published.status == Status.FOUND)
    assert found.sum() > 5
    assert (corrected.l2[found] <= corrected.eps[found] * (1 + 1e-12)).all()
    assert (published.l2[found] > published.eps[found]).all()


class Blind(nn.Module):
    """A masked model: it separates dark from bright images by a step function, which has no gradient."""

    def forward(self, images):
        bright = (images.mean((1, 2, 3)) > 0.5).to(images) + 0 * images.mean((1, 2, 3))
        return torch.stack([1 - bright, bright], 1)


def test_nan_images_fail_but_the_replay_counts_them_as_fooled():
    images, labels = torch.stack([torch.full((3, 8, 8), v) for v in (0.1, 0.2, 0.8, 0.9)]), torch.tensor([0, 0, 1, 1])
    for attack in (NAME, "linsley2023"):
        result = minimal_radius(Blind(), images, labels, attack=attack)
        assert (result.status == Status.FAILED).all()
        assert result.adversarial.isfinite().all()
        assert result.l2.isnan().all()
    # The published code takes the argmax of NaN logits, which is 0: "fooled" unless the label is 0.
    assert torch.full((2,), torch.nan).argmax() == 0
    dropped = as_published_summary(result.status, result.l2, labels, never_fooled="dropped")
    assert (dropped["n"], dropped["n_nan_fooled"], dropped["n_never_fooled"]) == (2, 2, 2)
    assert dropped["mean"] == pytest.approx(0.0088, abs=1e-5)
    counted = as_published_summary(result.status, result.l2, labels, never_fooled="counted")
    assert counted["n"] == 4
    assert counted["mean"] == pytest.approx((2 * 0.0088 + 2 * 10) / 4, abs=1e-4)


def test_never_fooled_images_are_dropped_or_counted_at_ten():
    status, radius, labels = [0, 1, 1, 2, 2], [np.nan, np.nan, np.nan, 1.0, 25.0], [1, 1, 0, 1, 1]
    assert as_published_summary(status, radius, labels, never_fooled="dropped")["mean"] == 13
    assert as_published_summary(status, radius, labels, never_fooled="counted")["mean"] == (10 + 10 + 26) / 4


def test_swapped_loss_arguments_keep_the_direction(golden, golden_net):
    # Keras's cross-entropy of (prediction as truth, label as prediction): - sum_k p_k log(clip(onehot_k)).
    image = golden["images"][:1].double().requires_grad_()
    share = golden_net.double()(image).softmax(1)[0]
    label = int(share.argmax())
    onehot = F.one_hot(torch.tensor(label), 10).double()
    swapped = -(share * onehot.clamp(1e-7, 1 - 1e-7).log()).sum()
    right = -share[label].log()
    directions = [torch.autograd.grad(loss, image, retain_graph=True)[0] for loss in (swapped, right)]
    torch.testing.assert_close(*(g / g.norm() for g in directions), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("settings", [{"scaling": "none"}, {"never_fooled": "ten"}, {"eps_max": 5.0}])
def test_unknown_settings_are_refused(settings, golden, golden_net):
    with pytest.raises(ValueError, match="expected"):
        minimal_radius(golden_net, golden["images"], golden["labels"], attack=NAME, **settings)


def test_an_empty_batch_gives_an_empty_result(golden, golden_net):
    assert len(minimal_radius(golden_net, golden["images"][:0], golden["labels"][:0], attack=NAME).status) == 0
