"""The harmonizer loss against values recorded from the published code, and on degenerate maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harmonizer.functional import harmonizer_loss, input_saliency, standardize_cut

GOLDEN = Path(__file__).parents[1] / "golden" / "harmonizer_loss.npz"
LAYERS = ("conv1", "conv2", "dense")
WEIGHT_DECAY = 1e-5


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def weights(golden):
    """Return the weights in PyTorch's layout, in float64, requiring gradients."""
    found = {}
    for layer in LAYERS:
        kernel = golden[f"weights.plain.{layer}.kernel"].double()
        kernel = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        found[f"{layer}.kernel"] = kernel.contiguous().requires_grad_()
        found[f"{layer}.bias"] = golden[f"weights.plain.{layer}.bias"].double().requires_grad_()
    return found


def network(w, images):
    hidden = torch.tanh(F.conv2d(images, w["conv1.kernel"], w["conv1.bias"]))
    hidden = torch.tanh(F.conv2d(hidden, w["conv2.kernel"], w["conv2.bias"], stride=2))
    return F.linear(hidden.mean((2, 3)), w["dense.kernel"], w["dense.bias"])


@pytest.mark.parametrize("case", ["mixed_64", "none_64"])
def test_loss_and_every_gradient_equal_the_published_ones(golden, case):
    w = weights(golden)
    images = golden[f"{case}/in.images"].double().permute(0, 3, 1, 2).requires_grad_()
    labels = golden[f"{case}/in.labels"].long()
    human = golden[f"{case}/in.heatmaps"].double().squeeze(-1)
    has_map = golden[f"{case}/in.tokens"].bool().flatten()
    logits = network(w, images)
    saliency = input_saliency(logits, images, labels, create_graph=True)
    agreement = harmonizer_loss(saliency, human, has_map)
    decay = WEIGHT_DECAY / 2 * sum(value.square().sum() for value in w.values())
    total = F.cross_entropy(logits, labels, label_smoothing=0.1) + agreement + decay
    gradients = dict(zip(w, torch.autograd.grad(total, list(w.values())), strict=True))

    def close(actual, name):
        expected = golden[f"{case}/f64.{name}"].double()
        torch.testing.assert_close(actual.detach(), expected.reshape(actual.shape), rtol=1e-9, atol=1e-15)

    close(agreement, "harmonization_loss")
    close(total, "total")
    for name, gradient in gradients.items():
        gradient = gradient.permute(2, 3, 1, 0) if gradient.ndim == 4 else gradient.t()
        close(gradient, f"grad.{name}")
    if case == "mixed_64":
        close(logits, "logits")
        close(saliency, "saliency")
        close(standardize_cut(saliency), "saliency_std")
        close(standardize_cut(human), "heatmap_std")


def maps(kind, dtype=torch.float32):
    ramp = torch.arange(64.0, dtype=dtype).reshape(1, 8, 8)
    return {"ramp": ramp, "zero": ramp * 0, "constant": ramp * 0 + 0.1, "tiny": ramp * 1e-30}[kind]


@pytest.mark.parametrize("saliency", ["ramp", "zero", "constant", "tiny"])
@pytest.mark.parametrize("human", ["ramp", "zero", "constant"])
def test_degenerate_maps_give_finite_losses_and_gradients(saliency, human):
    leaf = maps(saliency).clone().requires_grad_()
    loss = harmonizer_loss(leaf, maps(human), torch.tensor([True]))
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    if saliency != "ramp":
        assert not gradient.any()


def test_a_constant_human_map_counts_as_none_in_float32_too():
    # 0.1 is not a float32: by rounding, the mean differs from the values.
    human = torch.full((1, 224, 224), 0.1)
    assert not standardize_cut(human).any()
    resampled = F.interpolate(torch.full((1, 1, 50, 50), 0.3), (224, 224), mode="bilinear")[0]
    assert not standardize_cut(resampled).any()


def test_nan_in_samples_without_a_map_changes_nothing():
    torch.manual_seed(0)
    saliency, human = torch.randn(3, 33, 17).double(), torch.rand(3, 33, 17).double()
    has_map = torch.tensor([True, False, True])
    alone = harmonizer_loss(saliency[[0, 2]], human[[0, 2]], has_map[[0, 2]])
    saliency[1], human[1] = torch.nan, torch.nan
    leaf = saliency.requires_grad_()
    loss = harmonizer_loss(leaf, human, has_map)
    torch.testing.assert_close(loss, alone * 2 / 3)  # the mean runs over all samples
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert not gradient[1].any()
    assert gradient[0].any()


def test_the_loss_without_any_map_is_exactly_zero():
    leaf = torch.randn(2, 8, 8, requires_grad=True)
    loss = harmonizer_loss(leaf, torch.rand(2, 8, 8), torch.zeros(2, dtype=torch.bool))
    assert loss == 0
    assert not torch.autograd.grad(loss, leaf)[0].any()


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 33, 17), (1, 1, 1), (3, 2, 5)])
def test_the_loss_takes_any_size_and_ignores_the_map_scale(shape):
    torch.manual_seed(0)
    saliency, human, has_map = torch.randn(shape), torch.rand(shape), torch.ones(shape[0], dtype=torch.bool)
    loss = harmonizer_loss(saliency, human, has_map)
    assert loss.isfinite()
    torch.testing.assert_close(loss, harmonizer_loss(saliency, human * 255, has_map), rtol=1e-3, atol=1e-4)


def test_the_gradient_equals_finite_differences():
    torch.manual_seed(0)
    saliency = torch.randn(2, 9, 8).double().requires_grad_()
    human, has_map = torch.rand(2, 9, 8).double(), torch.tensor([True, False])

    # The target's scale carries no gradient: hold it fixed in the finite differences.
    factor = (standardize_cut(saliency).amax((1, 2), keepdim=True) + 1e-6).detach().clone()
    target = standardize_cut(human)
    target = target / (target.amax((1, 2), keepdim=True) + 1e-6) * factor

    def loss_at_fixed_scale(leaf):
        return ((standardize_cut(leaf) - target).square() * has_map[:, None, None]).mean()

    torch.testing.assert_close(loss_at_fixed_scale(saliency), harmonizer_loss(saliency, human, has_map, levels=1))
    assert torch.autograd.gradcheck(loss_at_fixed_scale, saliency)
    expected = torch.autograd.grad(loss_at_fixed_scale(saliency), saliency)
    actual = torch.autograd.grad(harmonizer_loss(saliency, human, has_map, levels=1), saliency)
    torch.testing.assert_close(actual, expected)


def test_the_level_metric_can_be_any_function():
    saliency, human, has_map = torch.randn(2, 16, 16), torch.rand(2, 16, 16), torch.tensor([True, True])
    absolute = harmonizer_loss(saliency, human, has_map, metric=lambda a, b: (a - b).abs())
    assert absolute > 0
    assert absolute != harmonizer_loss(saliency, human, has_map)


def test_half_precision_maps_are_computed_in_float32():
    saliency = torch.randn(1, 32, 32)
    loss = harmonizer_loss(saliency.bfloat16(), torch.rand(1, 32, 32), torch.tensor([True]))
    assert loss.dtype == torch.float32


def test_errors_name_invalid_shapes_and_levels():
    with pytest.raises(ValueError, match=r"expected saliency and human \(B,H,W\)"):
        harmonizer_loss(torch.rand(2, 8, 8), torch.rand(2, 8, 9), torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least 1 pyramid level"):
        harmonizer_loss(torch.rand(1, 8, 8), torch.rand(1, 8, 8), torch.ones(1, dtype=torch.bool), levels=0)
    with pytest.raises(ValueError, match="and 1 map"):
        harmonizer_loss(torch.rand(0, 8, 8), torch.rand(0, 8, 8), torch.ones(0, dtype=torch.bool))
