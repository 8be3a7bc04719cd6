"""An image has the same outputs and gradient alone and in a batch, to the last bit."""

import pytest
import torch
from torch import nn

from harmonizer.fast.cpu import batch_invariance
from harmonizer.fast.first_order import input_gradient_mode


def values(model, images):
    """Return the outputs and the images' gradient, as an attack computes them."""
    leaf = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    with input_gradient_mode():
        outputs = model(leaf)
    return outputs.detach(), torch.autograd.grad(outputs.sin().sum(), leaf)[0]


@pytest.mark.parametrize("model", ["convolution", "head"])
def test_values_do_not_depend_on_the_rest_of_the_batch(model):
    torch.manual_seed(0)
    layers = {
        "convolution": nn.Conv2d(12, 16, 3),
        "head": nn.Sequential(nn.Flatten(), nn.Linear(12 * 49, 100)),
    }
    images = torch.rand(150, 12, 7, 7)
    whole = values(layers[model], images)
    for start, count in ((0, 1), (149, 1), (3, 7), (40, 64), (0, 65)):
        part = values(layers[model], images[start : start + count].clone())
        assert all(torch.equal(a, b[start : start + count]) for a, b in zip(part, whole, strict=True))


@pytest.mark.parametrize("shape", [(0, 8), (1, 8), (64, 8), (65, 8), (200, 8), (3, 5, 8), (8,)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torchs_for_any_shape(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(8, 5, bias=bias).double()
    rows = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    expected = layer(rows)
    with input_gradient_mode():
        found = layer(rows)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    for outputs in (expected, found):
        torch.testing.assert_close(
            torch.autograd.grad(outputs.sum(), rows)[0], layer.weight.sum(0).expand(shape), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize(
    ("weight", "count", "lone"),
    [((16, 3, 3, 3), 1, True), ((16, 3, 3, 3), 2, False), ((16, 3, 5, 5), 1, False), ((64, 64, 3, 3), 1, False)],
)
def test_is_single_needs_one_image_and_a_small_weight(weight, count, lone):
    assert batch_invariance.is_single(torch.rand(count, weight[1], 8, 8), torch.rand(weight)) is lone
