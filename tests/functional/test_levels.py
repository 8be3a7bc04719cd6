"""Level metrics, top-k masking and channel reductions against NumPy, and on degenerate maps."""

import numpy as np
import pytest
import torch
from processes import in_two_processes

from harmonizer.functional import LEVEL_METRICS, harmonizer_loss, input_saliency
from harmonizer.functional.levels import PROBABILITY_MARGIN, TEMPERATURE
from harmonizer.functional.loss import keep_top
from harmonizer.functional.saliency import attack_map, reduce_channels

METRICS = sorted(LEVEL_METRICS)
FLAT = {"zero": 0.0, "constant": 0.3, "tiny": 1e-30}


def level_pair(samples=4, seed=0):
    """Return two levels (B,6,5) float64 >= 0, both with zeros; the first requires grad, sample 1 has no map."""
    rng = np.random.default_rng(seed)
    level, target = (np.maximum(rng.normal(size=(samples, 6, 5)), 0) for _ in range(2))
    target[1] = 0
    return torch.from_numpy(level).requires_grad_(), torch.from_numpy(target)


def cosine(u, v):
    return float((u * v).sum() / np.sqrt((u * u).sum() * (v * v).sum()))


def entropy(u, v):
    p = PROBABILITY_MARGIN + (1 - 2 * PROBABILITY_MARGIN) * u / u.max()
    t = v / v.max()
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def oracle(metric, level, target):
    """Return the errors of the samples that have a map, by NumPy, one sample at a time."""
    level, target = (x.detach().numpy() for x in (level, target))
    mapped = [i for i in range(len(level)) if target[i].any()]
    if metric == "mse":
        return [((level[i] - target[i]) ** 2).mean() for i in mapped]
    if metric == "relative_mse":
        return [((level[i] - target[i]) ** 2).sum() / (target[i] ** 2).sum() for i in mapped]
    if metric == "cosine":
        return [1 - cosine(level[i], target[i]) for i in mapped]
    if metric == "bce":
        return [entropy(level[i], target[i]).mean() for i in mapped]
    if metric == "masked_bce":
        return [entropy(level[i], target[i])[target[i] > 0].mean() for i in mapped]
    similar = np.exp([[cosine(level[i], target[j]) / TEMPERATURE for j in mapped] for i in mapped])
    hit = np.diag(similar)
    return list(-(np.log(hit / similar.sum(1)) + np.log(hit / similar.sum(0))) / 2)


@pytest.mark.parametrize("metric", METRICS)
def test_each_level_metric_equals_numpy(metric):
    level, target = level_pair()
    errors = LEVEL_METRICS[metric](level, target).flatten(1 if metric in ("mse", "relative_mse", "bce") else 0)
    errors = errors.mean(1) if errors.ndim > 1 else errors
    actual = errors[[0, 2, 3]].detach().numpy()
    np.testing.assert_allclose(actual, oracle(metric, level, target), rtol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_level_metric_gradients_equal_finite_differences(metric):
    level, target = level_pair()
    inside = (level.detach() + 0.1).requires_grad_()  # away from the kinks at equal maxima and at zero

    def errors(leaf):
        return LEVEL_METRICS[metric](leaf, target)[[0, 2, 3]]

    assert torch.autograd.gradcheck(errors, inside)
    assert torch.autograd.gradgradcheck(errors, inside)


@pytest.mark.parametrize("metric", METRICS)
def test_the_loss_is_the_mean_over_levels_and_all_samples(metric):
    rng = np.random.default_rng(1)
    saliency, human = (torch.from_numpy(rng.normal(size=(3, 16, 12))) for _ in range(2))
    has_map = torch.tensor([True, False, True])
    loss = harmonizer_loss(saliency, human.abs(), has_map, levels=1, metric=metric)
    kept = [torch.where(has_map[:, None, None], x, 0.0) for x in (saliency, human.abs())]
    cut = [np.maximum((x.numpy() - x.numpy().mean((1, 2), keepdims=True)), 0) for x in kept]
    deviation = [np.where(x.numpy().std((1, 2)) > 0, x.numpy().std((1, 2)), 1)[:, None, None] + 1e-5 for x in kept]
    s, h = (torch.from_numpy(c / d) for c, d in zip(cut, deviation, strict=True))
    h = h / (h.amax((1, 2), keepdim=True) + 1e-6) * (s.amax((1, 2), keepdim=True) + 1e-6) * has_map[:, None, None]
    assert loss.item() == pytest.approx(sum(oracle(metric, s, h)) / 3, rel=1e-12)


def test_the_relative_error_does_not_grow_with_a_peak():
    losses = {}
    for size in (16, 64):
        saliency, human = torch.zeros(1, size, size), torch.zeros(1, size, size)
        saliency[0, size // 4, size // 4] = 1.0  # after standardisation, its maximum is about the size
        human[0, size // 2 :, size // 2 :] = 1.0
        for metric in ("mse", "relative_mse"):
            losses[metric, size] = harmonizer_loss(saliency, human, torch.tensor([True]), levels=1, metric=metric)
    assert losses["mse", 64] / losses["mse", 16] > 15
    assert losses["relative_mse", 16].item() == pytest.approx(1, abs=0.02)
    assert losses["relative_mse", 64].item() == pytest.approx(1, abs=0.02)


def degenerate(kind):
    ramp = torch.arange(64.0).reshape(1, 8, 8)
    return ramp if kind == "ramp" else ramp * 1e-30 if kind == "tiny" else ramp * 0 + FLAT[kind]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale_match", ["released", "original", "attached"])
@pytest.mark.parametrize("top_k", [1.0, 0.1])
def test_degenerate_maps_give_finite_losses_and_derivatives(metric, scale_match, top_k):
    kinds = [(s, h) for s in ("ramp", *FLAT) for h in ("ramp", *FLAT)]
    saliency = torch.cat([degenerate(s) for s, _ in kinds]).requires_grad_()
    human = torch.cat([degenerate(h) for _, h in kinds])
    for has_map in (torch.ones(len(kinds), dtype=torch.bool), torch.zeros(len(kinds), dtype=torch.bool)):
        for part in (slice(None), slice(0, 1), slice(5, 6)):
            loss = harmonizer_loss(
                saliency[part], human[part], has_map[part], metric=metric, scale_match=scale_match, top_k=top_k
            )
            (first,) = torch.autograd.grad(loss, saliency, create_graph=True)
            assert loss.isfinite()
            assert first.isfinite().all()
            if not has_map.any():
                assert loss == 0
                assert not first.any()
            if first.requires_grad:
                (second,) = torch.autograd.grad(first.square().sum(), saliency, allow_unused=True)
                assert second is None or second.isfinite().all()


def test_zero_saliency_gives_finite_parameter_gradients():
    for reduction in ("mean", "absmean", "absmax", "l2"):
        weight = torch.zeros(2, 3, requires_grad=True)
        images = torch.rand(2, 3, 8, 8).requires_grad_()
        logits = images.tanh().mean((2, 3)) @ weight.T
        saliency = input_saliency(logits, images, torch.tensor([0, 1]), reduction=reduction, create_graph=True)
        assert not saliency.any()
        loss = harmonizer_loss(saliency, torch.rand(2, 8, 8), torch.tensor([True, True]), metric="cosine")
        assert torch.autograd.grad(loss + saliency.sum(), weight)[0].isfinite().all()


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 1.0])
def test_top_k_keeps_what_numpy_keeps(share):
    maps = np.random.default_rng(0).permutation(60).reshape(2, 6, 5) + 1.0
    count = max(1, round(share * 30))
    expected = np.where(maps >= np.sort(maps.reshape(2, 30), 1)[:, -count, None, None], maps, 0)
    leaf = torch.from_numpy(maps).requires_grad_()
    kept = keep_top(leaf, share)
    np.testing.assert_array_equal(kept.detach(), expected)
    (gradient,) = torch.autograd.grad(kept.sum(), leaf)
    np.testing.assert_array_equal(gradient, expected > 0)


REDUCTIONS = {
    "mean": lambda x: x.mean(1),
    "absmean": lambda x: np.abs(x).mean(1),
    "absmax": lambda x: np.abs(x).max(1),
    "l2": lambda x: np.sqrt((x**2).sum(1)),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("scale", [1.0, 1e-200, 0.0])
def test_channel_reductions_equal_numpy_with_finite_derivatives(reduction, scale):
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5)) * scale
    values[0, :, 0, 0] = 0
    leaf = torch.from_numpy(values).requires_grad_()
    reduced = reduce_channels(leaf, reduction)
    np.testing.assert_allclose(reduced.detach(), scale * REDUCTIONS[reduction](values / (scale or 1)), rtol=1e-12)
    (first,) = torch.autograd.grad(reduced.sum(), leaf, create_graph=True)
    assert first.isfinite().all()
    if reduction == "l2" and scale == 1:
        assert torch.autograd.gradcheck(lambda x: reduce_channels(x, "l2"), leaf.detach()[1:].requires_grad_())
        assert torch.autograd.grad(first.square().sum(), leaf)[0].isfinite().all()


def test_attack_masks_equal_the_channel_reductions():
    images, noise = torch.rand(2, 3, 4, 5).double(), torch.randn(2, 3, 4, 5).double()
    moved = (images + noise).numpy() - images.numpy()
    masks = {"abs_of_mean": np.abs(moved.mean(1)), "mean_of_abs": REDUCTIONS["absmean"](moved)}
    masks |= {"max_of_abs": REDUCTIONS["absmax"](moved), "l2": REDUCTIONS["l2"](moved)}
    for mask, expected in masks.items():
        np.testing.assert_allclose(attack_map(images + noise, images, mask=mask), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "mean"}, "level metric of mse"),
        ({"scale_match": "none"}, "'none'"),
        ({"std": "sample"}, "'sample'"),
        ({"top_k": 0.0}, r"\(0,1\]"),
    ],
)
def test_errors_name_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        harmonizer_loss(torch.rand(1, 8, 8), torch.rand(1, 8, 8), torch.tensor([True]), **settings)
    with pytest.raises(ValueError, match="mask"):
        attack_map(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), mask="sum")


def joined_batch():
    rng = np.random.default_rng(3)
    saliency, human = (torch.from_numpy(np.abs(rng.normal(size=(6, 16, 16)))) for _ in range(2))
    return saliency, human, torch.tensor([True, False, True, False, False, True])


def loss_and_gradient(rows):
    saliency, human, has_map = (x[rows] for x in joined_batch())
    leaf = saliency.clone().requires_grad_()
    loss = harmonizer_loss(leaf, human, has_map, metric="contrastive")
    return loss, torch.autograd.grad(loss, leaf)[0]


def work(rank, folder):
    torch.save([x.detach() for x in loss_and_gradient(slice(3 * rank, 3 * rank + 3))], folder / f"{rank}.pt")


def test_contrastive_loss_of_two_processes_equals_that_of_one(tmp_path):
    in_two_processes(work, tmp_path, tmp_path)
    loss, gradient = loss_and_gradient(slice(None))
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    # DDP averages over processes, so that the mean over processes must equal one process.
    torch.testing.assert_close(sum(part[0] for part in parts) / 2, loss.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]) / 2, gradient, rtol=1e-10, atol=1e-15)
    assert gradient[[0, 2, 5]].flatten(1).any(1).all()
