"""Adversarial training against closed forms; with the harmonizer, which passes are shared and how many run."""

from functools import partial

import hydra
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from configs.build import build
from harmonizer.attacks.noise import Noise
from harmonizer.data.batch import Batch
from harmonizer.functional.saliency import class_score
from harmonizer.models import PixelModel
from harmonizer.training import adversarial, double_backward
from harmonizer.training.adversarial import ascent, perturb, running_statistics_kept
from harmonizer.training.losses import batch_losses
from harmonizer.training.settings import LossSettings
from harmonizer.training.steps import step_passes

PIXELS, EPS = (3, 16, 16), 0.25
PLAIN = {"label_smoothing": 0.0, "levels": 2}


def batch(count=6, mapped=6, classes=2):
    """Return a batch in double precision, its pixels far from 0 and 1."""
    draw = torch.Generator().manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(count, *PIXELS, generator=draw, dtype=torch.float64)
    labels = torch.randint(classes, (count,), generator=draw)
    human = torch.rand(count, *PIXELS[1:], generator=draw, dtype=torch.float64)
    return Batch(images, labels, human, torch.arange(count) < mapped, [f"sample-{i}" for i in range(count)])


def pixel_model(*layers, **settings):
    torch.manual_seed(0)
    return PixelModel(nn.Sequential(*layers), (0.4,) * 3, (0.25,) * 3, second_order=True, **settings).double().train()


def linear():
    return pixel_model(nn.Flatten(), nn.Linear(768, 2))


def network(norm):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, stride=2), norm(8), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.SiLU()
    return pixel_model(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


GROUP, BATCH = partial(nn.GroupNorm, 2), nn.BatchNorm2d


def direction(model):
    """Return the pixel-space gradient (3,H,W) of logit 1 minus logit 0 of a linear model."""
    weight = model.backbone[1].weight.detach()
    return ((weight[1] - weight[0]) / 0.25).reshape(PIXELS)


@pytest.mark.parametrize("settings", [{"adversarial": "pgd"}, {"adversarial": "pgd", "adversarial_steps": 1}])
def test_pgd_on_a_linear_model_moves_eps_along_its_gradient(settings):
    model, samples, chosen = linear(), batch(), LossSettings(**settings)
    sizes = {"eps": EPS, "steps": chosen.attack_steps, "step_size": chosen.attack_step_size}
    moved = perturb(model, samples.images, lambda z: -class_score(z, samples.labels, "log_odds"), **sizes)
    uphill = direction(model) / direction(model).norm()
    sign = torch.where(samples.labels == 1, -1.0, 1.0)[:, None, None, None]
    torch.testing.assert_close(moved - samples.images, EPS * sign * uphill, rtol=0, atol=1e-12)


def test_pgd_loss_of_a_linear_model_equals_the_closed_form():
    model, samples = linear(), batch()
    found = batch_losses(model, samples, LossSettings(adversarial="pgd", **PLAIN), eps=EPS)["loss"]
    weights = list(model.parameters())
    gradients = torch.autograd.grad(found, weights)
    logits = model(samples.images)
    margin = (logits[:, 1] - logits[:, 0]) * torch.where(samples.labels == 1, 1.0, -1.0)
    size = (model.backbone[1].weight[1] - model.backbone[1].weight[0]).norm() / 0.25
    expected = F.softplus(-(margin - EPS * size)).mean()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for mine, theirs in zip(gradients, torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_trades_on_a_linear_model_moves_eps_along_its_gradient():
    model, samples = linear(), batch()
    sizes = {"adversarial_steps": 10, "adversarial_step_size": 1.0}  # each step halves the remaining random start
    losses = batch_losses(
        model, samples, LossSettings(adversarial="trades", trades_beta=2.0, **sizes, **PLAIN), eps=EPS
    )
    logits, uphill = model(samples.images), direction(model) / direction(model).norm()
    ends = torch.stack([model(samples.images + sign * EPS * uphill) for sign in (-1, 1)])  # (2,B,K)
    divergence = F.kl_div(ends.log_softmax(2), logits.softmax(1).expand_as(ends), reduction="none").sum(2)
    nearest = (losses["trades_loss"] * 6 - torch.cartesian_prod(*divergence.T).sum(1)).abs().min()
    assert nearest < 1e-6  # each image ends at one of the two points
    torch.testing.assert_close(losses["cross_entropy"], F.cross_entropy(logits, samples.labels))
    torch.testing.assert_close(losses["loss"], losses["cross_entropy"] + 2 * losses["trades_loss"])


def attacked_images(model, samples, monkeypatch, seed=0, **settings):
    """Return the adversarial images of a training step."""
    seen = []

    def spy(*args, **kwargs):
        seen.append(perturb(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(adversarial, "perturb", spy)
    noise = Noise(samples.images, samples.keys, seed)
    batch_losses(model, samples, LossSettings(**settings, **PLAIN), eps=EPS, factor=1.0, joint=False, noise=noise)
    return seen[0]


@pytest.mark.parametrize("kind", ["pgd", "fast", "trades"])
def test_adversarial_images_stay_in_ball_and_box(kind, monkeypatch):
    model, samples = network(GROUP), batch(classes=4)
    samples = samples._replace(images=samples.images.round())  # at the bounds 0 and 1
    moved = attacked_images(model, samples, monkeypatch, adversarial=kind, adversarial_eps=3.0)
    length = (moved - samples.images.detach()).flatten(1).norm(dim=1)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert length.max() <= EPS + 1e-12
    assert length.min() > 0.1 * EPS
    assert moved.grad_fn is None


@pytest.mark.parametrize("kind", ["fast", "trades"])
def test_a_random_start_depends_only_on_seed_and_sample(kind, monkeypatch):
    model, samples = network(GROUP), batch(classes=4)
    whole = attacked_images(model, samples, monkeypatch, adversarial=kind)
    order = [4, 1, 5]
    part = Batch(*(v[order] for v in samples[:4]), [samples.keys[i] for i in order])
    torch.testing.assert_close(attacked_images(model, part, monkeypatch, adversarial=kind), whole[order])
    other = attacked_images(model, samples, monkeypatch, seed=1, adversarial=kind)
    assert (other - whole).abs().amax() > 1e-6


@pytest.mark.parametrize("harmonize", [False, True])
@pytest.mark.parametrize("kind", ["none", "pgd", "trades"])
def test_only_passes_of_the_loss_update_running_statistics(kind, harmonize):
    model, samples = network(BATCH), batch(classes=4)
    layer = model.backbone[1]
    batch_losses(
        model,
        samples,
        LossSettings(adversarial=kind, adversarial_saliency="clean", **PLAIN),
        eps=EPS,
        factor=float(harmonize),
    )
    passes = {"none": 1, "pgd": 1 + harmonize, "trades": 2}[kind]
    assert int(layer.num_batches_tracked) == passes
    assert layer.track_running_stats
    assert layer.momentum == 0.1


@pytest.mark.parametrize("mapped", [1, 4, 5])
def test_the_attack_on_a_split_batch_updates_no_statistics(mapped):
    model, samples = network(BATCH), batch(mapped=mapped, classes=4)
    settings = LossSettings(adversarial="pgd", adversarial_saliency="clean", **PLAIN)
    seen = []
    model.backbone[1].register_forward_hook(lambda layer, inputs, _: seen.append(len(inputs[0])))
    batch_losses(model, samples, settings, eps=EPS, factor=1.0, joint=False)
    assert int(model.backbone[1].num_batches_tracked) == 2  # the passes of the saliency and of the loss
    assert 1 not in seen


def test_statistics_are_tracked_again_after_an_error():
    model = network(BATCH)
    with pytest.raises(RuntimeError, match="lost"), running_statistics_kept(model):
        raise RuntimeError("lost")
    assert model.backbone[1].track_running_stats


@pytest.mark.parametrize("score", ["logit", "log_odds"])
@pytest.mark.parametrize(("norm", "mapped"), [(GROUP, 6), (GROUP, 4), (BATCH, 6), (BATCH, 4)])
def test_the_shared_first_step_equals_the_attacks_own(norm, mapped, score, monkeypatch):
    model, samples = network(norm), batch(mapped=mapped, classes=4)
    settings = LossSettings(adversarial="pgd", adversarial_saliency="clean", saliency_of=score, **PLAIN)
    firsts = []

    def spy(forward, images, objective, *, first, **sizes):
        own = ascent(forward, images, objective)
        firsts.append((first, own))
        return perturb(forward, images, objective, first=first, **sizes)

    monkeypatch.setattr(adversarial, "perturb", spy)
    batch_losses(model, samples, settings, eps=EPS, factor=1.0, joint=norm is BATCH)
    ((first, own),) = firsts
    torch.testing.assert_close(first, own, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("where", ["clean", "adversarial"])
@pytest.mark.parametrize("kind", ["pgd", "trades", "fast"])
def test_split_and_joint_batches_give_equal_gradients(kind, where):
    found = {}
    for joint in (False, True):
        model, samples = network(GROUP), batch(mapped=3, classes=4)
        settings = LossSettings(adversarial=kind, adversarial_saliency=where, **PLAIN)
        losses = batch_losses(model, samples, settings, eps=EPS, factor=2.0, joint=joint)
        assert losses["harmonizer_loss"] > 1e-3
        found[joint] = [losses["loss"], *torch.autograd.grad(losses["loss"], list(model.parameters()))]
    for split, joined in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(split, joined, rtol=1e-9, atol=1e-12)


CASES = [
    (kind, where, score)
    for kind in ("pgd", "trades", "fast")
    for where in ("clean", "adversarial", None)
    for score in ("logit", "log_odds")
]


@pytest.mark.parametrize(("kind", "where", "score"), CASES)
def test_step_passes_equals_the_passes_of_a_step(kind, where, score, monkeypatch):
    counts = {"forward": 0, "gradient": 0}
    differentiate = double_backward.input_gradient

    def counted(*args, **kwargs):
        counts["gradient"] += 1
        return differentiate(*args, **kwargs)

    for place in (double_backward, adversarial):
        monkeypatch.setattr(place, "input_gradient", counted)
    model, samples = network(BATCH), batch(classes=4)
    model.backbone[0].register_forward_hook(lambda *_: counts.update(forward=counts["forward"] + 1))
    where = {} if where is None else {"adversarial_saliency": where}
    settings = LossSettings(adversarial=kind, saliency_of=score, **where, **PLAIN)
    loss = batch_losses(model, samples, settings, eps=EPS, factor=1.0)["loss"]
    loss.backward()
    in_loss = 1 + (kind == "trades" or settings.saliency_at == "clean")  # forward passes in the graph of the loss
    last = 2 * (in_loss - 1) + 4 if kind == "trades" or settings.saliency_at == "adversarial" else 2 + 4
    assert counts["forward"] + counts["gradient"] + last == step_passes(settings, harmonize=True)
    alone = step_passes(settings, harmonize=False)
    assert step_passes(settings, harmonize=True) <= 1.6 * alone or (kind, where) == (
        "fast",
        {"adversarial_saliency": "clean"},
    )


def test_fast_with_several_steps_is_refused():
    with pytest.raises(
        ValueError, match="expected adversarial_steps=1 with adversarial=fast, got 3; try adversarial=pgd"
    ):
        LossSettings(adversarial="fast", adversarial_steps=3)


def test_adversarial_settings_reach_module_and_run_folder():
    with hydra.initialize_config_module("configs", version_base="1.3"):
        config = hydra.compose("train", ["adversarial=trades", "adversarial_eps=1", "+recipe.trades_beta=3"])
    settings = build(config.module, classes=["a", "b"], image_size=32).loss_settings
    assert (settings.adversarial, settings.adversarial_eps, settings.trades_beta) == ("trades", 1, 3)
    assert config.folder == "runs/resnet50/control-trades/seed-0"
