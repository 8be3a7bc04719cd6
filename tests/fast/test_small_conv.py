"""Convolutions of maps with few pixels as matrix products, compared with torch's own."""

import pytest
import timm
import torch
import torch.nn.functional as F

from harmonizer.attacks import minimal_radius
from harmonizer.data.batch import Batch
from harmonizer.fast.cpu import small_conv
from harmonizer.fast.cpu.small_conv import TapProducts, WindowProducts, is_supported
from harmonizer.fast.first_order import input_gradient_mode, parameter_gradient_mode
from harmonizer.fast.second_order import second_order_mode
from harmonizer.models import PixelModel
from harmonizer.training.double_backward import logits_and_gradient

GEOMETRIES = [
    (kernel, stride, padding, size)
    for kernel in ((1, 1), (2, 3), (3, 3), (5, 5))
    for stride in ((1, 1), (2, 1), (3, 3))
    for padding in ((0, 0), (1, 1), (2, 3))
    for size in ((1, 1), (2, 2), (3, 4))
    if all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True))
]


WAYS = [
    (TapProducts, torch.contiguous_format, True),
    (TapProducts, torch.contiguous_format, False),
    (TapProducts, torch.channels_last, True),
    (WindowProducts, torch.contiguous_format, True),
]


@pytest.mark.parametrize(("way", "layout", "few"), WAYS)
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), GEOMETRIES)
def test_any_geometry_has_torchs_values_and_gradients(kernel, stride, padding, size, way, layout, few, monkeypatch):
    monkeypatch.setattr(small_conv, "COPY_BACK", 10**9 if few else -1)
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.contiguous(memory_format=layout) if len(shape) == 4 else values

    images, weight, bias = (drawn(*shape).requires_grad_() for shape in ((3, 4, *size), (5, 4, *kernel), (5,)))
    outputs = F.conv2d(images, weight, bias, stride, padding)
    gradient = drawn(*outputs.shape)
    to_images, to_weight = torch.autograd.grad(outputs, [images, weight], gradient)
    products = way(weight.shape, size, stride, padding)
    taps = products.taps(weight)
    with torch.no_grad():
        found = products.convolve(images, taps, bias), products.input_gradient(gradient, taps)
        torch.testing.assert_close(products.weight_gradient(gradient, images), to_weight, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found, (outputs.detach(), to_images), rtol=1e-11, atol=1e-12)
    for value, source in zip(found, (images, gradient), strict=True):
        kept = torch.contiguous_format if source.is_contiguous() else torch.channels_last
        assert value.is_contiguous(memory_format=kept)
        assert not value._is_view()  # an autograd Function must not return a view


@pytest.mark.parametrize(
    ("size", "stride", "missed"),
    [((1, 1), (1, 1), 8), ((2, 2), (1, 1), 20), ((4, 4), (2, 2), 11), ((2, 3), (1, 1), 26)],
)
def test_taps_outside_the_map_are_counted(size, stride, missed):
    products = TapProducts(torch.Size((1, 1, 3, 3)), size, stride, (1, 1))
    assert products.missed == missed
    met = products.convolve(torch.ones(1, 1, *size), products.taps(torch.ones(1, 1, 3, 3)))
    assert met.sum() + missed == 9 * met.numel()


def shaped(inputs, weight, layout=torch.contiguous_format, dtype=torch.float32):
    return torch.zeros(inputs, dtype=dtype).contiguous(memory_format=layout), torch.zeros(weight, dtype=dtype)


HERE = ((1, 1), (1, 1), (1, 1), 1)


def test_only_small_maps_with_many_channels_are_supported():
    last = torch.channels_last
    assert is_supported(*shaped((2, 256, 3, 3), (256, 256, 3, 3)), *HERE)
    assert is_supported(*shaped((2, 256, 4, 4), (256, 256, 3, 3), last), *HERE)
    assert not is_supported(*shaped((2, 256, 4, 4), (256, 256, 3, 3)), *HERE)
    assert not is_supported(*shaped((2, 256, 5, 5), (256, 256, 3, 3), last), *HERE)
    assert not is_supported(*shaped((2, 128, 2, 2), (256, 128, 3, 3)), *HERE)
    assert not is_supported(*shaped((1, 256, 2, 2), (256, 256, 3, 3)), *HERE)
    assert is_supported(*shaped((1, 256, 1, 1), (256, 256, 3, 3)), *HERE)
    assert not is_supported(*shaped((0, 256, 2, 2), (256, 256, 3, 3)), *HERE)
    assert not is_supported(*shaped((2, 256, 2, 2), (256, 256, 5, 5)), *HERE)  # torch raises an error
    assert not is_supported(*shaped((2, 256, 2, 2), (256, 256, 3, 3)), *HERE[:3], 2)
    assert not is_supported(*shaped((2, 256, 2, 2), (256, 256, 3, 3)), (1, 1), (2, 2), (2, 2), 1)
    assert not is_supported(*shaped((2, 256, 2, 2), (256, 256, 3, 3), dtype=torch.bfloat16), *HERE)


BAD = {
    "padding": ((256, 256, 3, 3), None, (1, 1), (-1, 1)),
    "stride": ((256, 256, 3, 3), None, (0, 1), (1, 1)),
    "channels": ((256, 512, 3, 3), None, (1, 1), (1, 1)),
    "dimensions": ((256, 256, 3), None, (1, 1), (1, 1)),
    "size of the bias": ((256, 256, 3, 3), torch.zeros(1), (1, 1), (1, 1)),
    "type of the bias": ((256, 256, 3, 3), torch.zeros(256, dtype=torch.float64), (1, 1), (1, 1)),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("mode", [second_order_mode, input_gradient_mode])
def test_invalid_arguments_raise_torchs_own_errors(name, mode):
    weight, bias, stride, padding = BAD[name]
    arguments = torch.rand(2, 256, 2, 2, requires_grad=True), torch.rand(weight), bias, stride, padding
    with pytest.raises(RuntimeError) as expected:
        F.conv2d(*arguments)
    with pytest.raises(RuntimeError) as found, mode():
        F.conv2d(*arguments)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("mode", [second_order_mode, input_gradient_mode])
def test_image_dependent_weights_propagate_the_gradient(mode, count):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(256, 256, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    images = torch.randn(count, 256, 1, 1, generator=generator, dtype=torch.float64).requires_grad_()
    found = []
    for context in (mode(), torch.enable_grad()):
        with context:
            outputs = F.conv2d(images, weight * images.mean(), padding=1)
            outputs = F.layer_norm(outputs, (1, 1), images[0, 0], eps=1.0) + F.batch_norm(
                outputs, outputs[0, :, 0, 0].detach(), outputs[0, :, 0, 0].detach().square() + 1, images[0, :, 0, 0]
            )
        found.append(torch.autograd.grad(outputs.sin().sum(), images, create_graph=True)[0])
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("count", "size", "layout", "trained", "way"),
    [
        (4, 2, torch.contiguous_format, True, WindowProducts),
        (13, 2, torch.contiguous_format, True, WindowProducts),
        (14, 2, torch.contiguous_format, True, TapProducts),
        (4, 1, torch.contiguous_format, True, TapProducts),  # a single tap to copy
        (4, 2, torch.channels_last, True, TapProducts),
        (4, 2, torch.contiguous_format, False, TapProducts),  # an attack, where the batch must not matter
    ],
)
def test_few_training_images_use_window_products(count, size, layout, trained, way):
    maps = torch.rand(count, 256, size, size).contiguous(memory_format=layout).requires_grad_()
    weight = torch.rand(256, 256, 3, 3).contiguous(memory_format=layout).requires_grad_(trained)
    assert type(small_conv.conv_as_matmul(maps, weight, None, *HERE).grad_fn.products) is way


def test_lower_precision_is_left_to_torch(products_made):
    backbone = timm.create_model("resnet18", num_classes=4).train()
    with torch.autocast("cpu", torch.bfloat16), parameter_gradient_mode():
        backbone(torch.rand(3, 3, 64, 64))
    assert not products_made


def test_samples_with_and_without_a_map_use_matrix_products(products_made):
    torch.manual_seed(0)
    backbone = timm.create_model("resnet18", num_classes=4, zero_init_last=False).double().train()
    images = torch.rand(5, 3, 64, 64, dtype=torch.float64)
    mapped = torch.tensor([True, False, True, False, False])
    batch = Batch(images, torch.arange(5) % 4, images.mean(1), mapped, list("abcde"))
    found, made = [], []
    for ours in (False, True):
        model = PixelModel(backbone, (0.5,) * 3, (0.5,) * 3, second_order=ours).double().train()
        model.zero_grad()
        logits, gradient = logits_and_gradient(model, batch._replace(images=images.clone()), joint=False)
        (gradient.square().sum() + logits.square().sum()).backward()
        found.append([logits.detach(), gradient.detach(), *[parameter.grad for parameter in model.parameters()]])
        made.append(products_made.count((512, 512, 3, 3)))
    assert made == [0, 6]  # three layers, for each part of the batch
    largest = max(float(value.norm()) for value in found[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-11 * largest)


@pytest.fixture
def products_made(monkeypatch):
    """Weight shapes of the convolutions that ran as matrix products."""
    made = []

    class Counted(TapProducts):
        def __init__(self, shape, *geometry):
            made.append(tuple(shape))
            super().__init__(shape, *geometry)

    monkeypatch.setattr("harmonizer.fast.cpu.small_conv.TapProducts", Counted)
    return made


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_resnets_last_layers_run_as_matrix_products(products_made, layout):
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=4, zero_init_last=False).double().train()
    images = torch.rand(3, 3, 64, 64, dtype=torch.float64).contiguous(memory_format=layout)
    found = []
    for ours in (False, True):
        leaf = images.clone().requires_grad_()
        model.zero_grad()
        with second_order_mode() if ours else torch.enable_grad():
            logits = model(leaf)
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), leaf, create_graph=True)
        (gradient.square().sum() + logits.square().sum()).backward()
        found.append([logits.detach(), gradient.detach(), *[parameter.grad for parameter in model.parameters()]])
    assert products_made.count((512, 512, 3, 3)) == 3
    largest = max(float(value.norm()) for value in found[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-11 * largest)


def test_attacks_use_matrix_products_and_find_the_same_radii(products_made, monkeypatch):
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=4, zero_init_last=False).eval()
    images = torch.rand(6, 3, 32, 32)
    labels = model(images).argmax(1)
    ours = minimal_radius(model, images, labels, attack="linsley2023")
    assert len(products_made) > 8
    monkeypatch.setattr(small_conv, "is_supported", lambda *args, **kwargs: False)
    plain = minimal_radius(model, images, labels, attack="linsley2023")
    # Rounding may flip a step of the bisection.
    torch.testing.assert_close(ours.eps, plain.eps, rtol=0, atol=0.1, equal_nan=True)
    assert ours.status.tolist() == plain.status.tolist()


def test_matrix_products_are_used_without_gradients(products_made):
    layer = torch.nn.Conv2d(256, 256, 3, padding=1)
    maps = torch.rand(2, 256, 2, 2)
    with torch.no_grad(), input_gradient_mode():
        outputs = layer(maps)
    assert len(products_made) == 1
    torch.testing.assert_close(outputs, layer(maps).detach(), rtol=1e-5, atol=1e-6)
