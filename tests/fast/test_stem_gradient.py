"""The image gradient through the first layers, compared with torch's own."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from harmonizer.attacks import minimal_radius
from harmonizer.fast.cpu.stem_gradient import image_gradient, is_supported
from harmonizer.fast.first_order import input_gradient_mode
from harmonizer.fast.second_order import second_order_mode

GEOMETRIES = [(k, s, p) for k in (2, 3, 5, 7) for s in (1, 2, 3, 4) for p in (0, 1, 3) if s < k]


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_the_image_gradient_equals_torchs_in_any_geometry(kernel, stride, padding, size):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(5, 3, kernel, kernel, generator=generator, dtype=torch.float64)
    outputs = F.conv2d(images, weight, None, stride, padding)
    gradient = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(outputs, images, gradient)
    found = image_gradient(gradient, weight, size, stride, padding)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "kernel", "padding", "stride"),
    [(12, 7, 3, 2), (64, 7, 2, 2), (8, 9, 0, 2), (32, 3, 1, 2), (16, 3, 1, 1), (64, 3, 1, 1), (24, 5, 2, 1)],
)
def test_the_gradient_does_not_depend_on_the_batch_size(channels, kernel, padding, stride):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(channels, 3, kernel, kernel, generator=generator)
    gradient = torch.randn(64, channels, 14, 14, generator=generator).contiguous(memory_format=torch.channels_last)
    assert is_supported(gradient, weight, (stride, stride), (padding, padding), (1, 1), 1)
    size = (13 * stride + kernel - 2 * padding, 14 * stride - 1 + kernel - 2 * padding)
    whole = image_gradient(gradient, weight, size, stride, padding)
    for count in (1, 2, 7, 33):
        part = gradient[:count].contiguous(memory_format=torch.channels_last)
        assert torch.equal(image_gradient(part, weight, size, stride, padding), whole[:count])


@pytest.mark.parametrize(
    ("mode", "kernel", "stride", "times"),
    [
        (input_gradient_mode, 7, 2, 1),
        (input_gradient_mode, 3, 2, 1),
        (input_gradient_mode, 3, 1, 1),
        (second_order_mode, 7, 2, 1),
        (second_order_mode, 3, 2, 0),  # too small a share of a step
        (second_order_mode, 7, 1, 0),
    ],
)
def test_both_modes_use_the_stem_gradient_where_it_is_faster(monkeypatch, mode, kernel, stride, times):
    calls = []

    def counted(*args):
        calls.append(1)
        return image_gradient(*args)

    for module in ("convolution", "cpu.stem_gradient"):
        monkeypatch.setattr(f"harmonizer.fast.{module}.image_gradient", counted)
    layer = nn.Conv2d(3, 4, kernel, stride=stride, padding=kernel // 2)
    images = torch.rand(2, 3, 9, 9, requires_grad=True)
    with mode():
        outputs = layer(images).sin().sum()
    (found,) = torch.autograd.grad(outputs, images, create_graph=mode is second_order_mode)
    torch.testing.assert_close(found, torch.autograd.grad(layer(images).sin().sum(), images)[0])
    assert len(calls) == times


OTHERS = {
    "channels": (8, (2, 2), (1, 1), 7),
    "two strides": (3, (2, 1), (1, 1), 7),
    "dilated": (3, (2, 2), (2, 2), 7),
    "without overlap": (3, (7, 7), (1, 1), 7),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_convolutions_are_left_to_torch(name):
    channels, stride, dilation, kernel = OTHERS[name]
    weight = torch.zeros(4, channels, kernel, kernel)
    assert is_supported(torch.zeros(4, 3, 7, 7), torch.zeros(4, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1)
    assert not is_supported(weight, weight, stride, (3, 3), dilation, 1)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "test_efficientnet_gn"])
def test_a_networks_image_gradient_equals_torchs(name, layout):
    torch.manual_seed(0)
    settings = {"vit": {"img_size": 64}, "res": {"zero_init_last": False}}.get(name[:3], {})
    model = timm.create_model(name, num_classes=4, **settings).double().train()
    model(torch.rand(8, 3, 64, 64, dtype=torch.float64))  # running statistics other than 0 and 1
    model.eval()
    images = torch.rand(3, 3, 64, 64, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    (expected,) = torch.autograd.grad(model(images).sin().sum(), images)
    with input_gradient_mode():
        outputs = model(images)
    (found,) = torch.autograd.grad(outputs.sin().sum(), images)
    torch.testing.assert_close(outputs, model(images), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))


class Bare(nn.Module):
    """A network that calls torch's functions directly, with positional and keyword arguments."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.register_buffer("mean", torch.rand(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)
        self.flat = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        x = F.conv2d(input=images, weight=self.weight, stride=2, padding="valid")
        x = x + F.conv2d(images, self.weight, stride=(2, 2))
        x = F.batch_norm(x, self.mean, self.variance, eps=0.1).relu().amax((2, 3))
        return self.head(self.flat(x))


def test_direct_calls_work_and_an_attack_changes_no_state():
    torch.manual_seed(0)
    model = Bare().eval()
    images = torch.rand(6, 3, 12, 12)
    plain = model(images)
    with input_gradient_mode():
        torch.testing.assert_close(model(images.contiguous(memory_format=torch.channels_last)), plain)
    labels = model(images).argmax(1)
    before = copy.deepcopy(model.state_dict())
    result = minimal_radius(model, images, labels, attack="linsley2023")
    exact = minimal_radius(copy.deepcopy(model).double(), images.double(), labels, attack="linsley2023")
    torch.testing.assert_close(result.eps, exact.eps, equal_nan=True)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_mixed_precision_normalisation_is_left_to_torch():
    norm = nn.BatchNorm2d(3).eval()
    images = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    with input_gradient_mode():
        assert "Addcmul" in type(norm(images).grad_fn).__name__
        found = norm(images.bfloat16())
    assert found.dtype == torch.bfloat16
    assert "BatchNorm" in type(found.grad_fn).__name__


@pytest.mark.parametrize("size", [1, (1, 1)])
def test_global_average_pooling_keeps_gradients_channels_last(size):
    torch.manual_seed(0)
    pool = nn.AdaptiveAvgPool2d(size)
    images = torch.rand(3, 5, 4, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    with input_gradient_mode():
        outputs = pool(images)
        assert pool(images[0]).shape == (5, 1, 1)  # run by torch
    torch.testing.assert_close(outputs, pool(images))
    weights = torch.rand(3, 5, 1, 1, dtype=torch.float64)
    (found,) = torch.autograd.grad((outputs * weights).sum(), images)
    torch.testing.assert_close(found, (weights / 24).expand_as(images))
    with input_gradient_mode():
        (before,) = torch.autograd.grad(pool(images.sin()).sum(), images)
    assert before.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_output_of_a_stem_can_be_modified_in_place(stride, count):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, stride, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(3)).eval()
    images = torch.rand(count, 3, 8, 8)
    labels = model(images).argmax(1)
    for attack in ("linsley2023", "pgd"):
        result = minimal_radius(model, images, labels, attack=attack, batch_size=1)
        assert result.l2.isfinite().all()
