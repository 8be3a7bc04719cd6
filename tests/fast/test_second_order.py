"""Closed-form second derivatives, compared with torch's own and with finite differences."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from harmonizer.fast.second_order import second_order_mode


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def second_order(layer, inputs, parameters):
    """Differentiate a nonlinear function of the input gradient and of the outputs."""
    outputs = layer(inputs, *parameters)
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).reshape(outputs.shape)
    scalar = (outputs.tanh() * weights).sum()
    (gradient,) = torch.autograd.grad(scalar, inputs, create_graph=True)
    loss = gradient.square().sum() + scalar.square() + gradient.sin().sum()
    return [outputs.detach(), gradient.detach(), *torch.autograd.grad(loss, [inputs, *parameters])]


def _ignoring(activate, values):
    """Apply an activation in place and ignore its result."""
    activate(values, inplace=True)
    return values


def _of_a_view(activate, values):
    """Apply an activation in place to a view, then use the whole tensor."""
    return torch.cat([activate(values[:, :2], inplace=True), values], 1)


LAYERS = {
    "conv": (lambda x, w, b: F.conv2d(x, w, b), (2, 3, 7, 6), (4, 3, 3, 3), (4,)),
    "conv strided": (lambda x, w, b: F.conv2d(x, w, b, 2, (1, 2)), (2, 3, 7, 6), (4, 3, 3, 3), (4,)),
    "conv dilated": (lambda x, w: F.conv2d(x, w, None, 1, 2, 2), (2, 3, 7, 6), (4, 3, 3, 3)),
    "conv grouped": (lambda x, w, b: F.conv2d(x, w, b, 2, 1, 1, 2), (2, 4, 7, 6), (6, 2, 3, 3), (6,)),
    "conv depthwise": (lambda x, w: F.conv2d(x, w, padding=1, groups=4), (2, 4, 5, 5), (4, 1, 3, 3)),
    "conv patches": (lambda x, w, b: F.conv2d(x, w, b, (2, 3)), (2, 3, 6, 6), (4, 3, 2, 3), (4,)),
    "conv small": (
        lambda x, w, b: F.conv2d(x, w, b, (2, 1), 1) / 50,
        (2, 256, 3, 2),
        (256, 256, 3, 3),
        (256,),
    ),
    "conv named": (lambda x, w: F.conv2d(input=x, weight=w, stride=2), (2, 3, 7, 7), (4, 3, 3, 3)),
    "conv same": (lambda x, w: F.conv2d(x, w, padding="same"), (2, 3, 5, 5), (4, 3, 3, 3)),
    "batch norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (4, 3, 2, 3), (3,), (3,)),
    "batch norm, plain": (lambda x: F.batch_norm(x, None, None, training=True), (4, 3, 2, 3)),
    "batch norm, flat": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (5, 3), (3,), (3,)),
    "layer norm": (lambda x, w, b: F.layer_norm(x, (5,), w, b), (2, 3, 5), (5,), (5,)),
    "layer norm, large eps": (lambda x, w, b: F.layer_norm(x, (5,), w, b, 0.5), (2, 3, 5), (5,), (5,)),
    "layer norm of nothing": (lambda x, w: F.layer_norm(x[:0], (5,), w).sum() + x.sin(), (2, 3, 5), (5,)),
    "layer norm, plain": (lambda x: F.layer_norm(x, (3, 5)), (2, 3, 5)),
    "gelu": (lambda x: F.gelu(3 * x), (4, 5)),
    "gelu tanh": (lambda x: F.gelu(3 * x, approximate="tanh"), (4, 5)),
    "hardswish": (lambda x: F.hardswish(3 * x), (4, 5)),
    "hardswish in place": (lambda x: F.hardswish(3 * x, inplace=True), (4, 5)),
    "hardtanh": (lambda x: F.hardtanh(2 * x).sin(), (4, 5)),
    "hardtanh in place": (lambda x: F.hardtanh(2 * x, -0.5, 1.5, inplace=True).sin(), (4, 5)),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.2).sin(), (4, 5)),
    "leaky relu in place": (lambda x: F.leaky_relu(x.sin(), inplace=True).sin(), (4, 5)),
    "leaky relu, falling": (lambda x: F.leaky_relu(x, -0.2).sin(), (4, 5)),
    "relu": (lambda x: F.relu(x).sin(), (4, 5)),
    "relu in place": (lambda x: F.relu(x.sin(), inplace=True).sin(), (4, 5)),
    "relu of torch": (lambda x: torch.relu(x.sin()).sin() + x.relu(), (4, 5)),
    "relu6": (lambda x: F.relu6(5 * x).sin(), (4, 5)),
    "relu6 in place": (lambda x: F.relu6(5 * x, inplace=True).sin(), (4, 5)),
    "silu": (lambda x: F.silu(3 * x), (4, 5)),
    "silu in place": (lambda x: F.silu(3 * x, inplace=True), (4, 5)),
    "silu, result ignored": (lambda x: _ignoring(F.silu, 3 * x), (4, 5)),
    "relu, result ignored": (lambda x: _ignoring(F.relu, 3 * x).sin(), (4, 5)),
    "relu of a view": (lambda x: _of_a_view(F.relu, 3 * x).sin(), (4, 5)),
    "silu of a view": (lambda x: _of_a_view(F.silu, 3 * x), (4, 5)),
    "relu6, changed afterwards": (lambda x: F.relu6(5 * x).add_(1).sin(), (4, 5)),
    "leaky relu, changed afterwards": (lambda x: F.leaky_relu(x.sin()).add_(1).sin(), (4, 5)),
    "hardtanh, changed afterwards": (lambda x: F.hardtanh(2 * x).add_(1).sin(), (4, 5)),
    "silu of one value": (lambda x: F.silu(x.mean().expand(4, 5)), (4, 5)),
    "silu of nothing": (lambda x: torch.cat([F.silu(x[:0].sin(), inplace=True), x.sin()]), (4, 5)),
    "attention": (
        lambda x, k, v: F.scaled_dot_product_attention(x, k, v),
        (2, 3, 4, 5),
        (2, 3, 6, 5),
        (2, 3, 6, 4),
    ),
    "attention, scaled": (
        lambda x, w: F.scaled_dot_product_attention(x @ w, x, x.sin(), scale=0.7),
        (2, 3, 4, 5),
        (5, 5),
    ),
    "attention, biased": (
        lambda x, m: F.scaled_dot_product_attention(x, x.sin(), x, attn_mask=m),
        (2, 3, 4, 5),
        (1, 3, 4, 4),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_all_derivatives_equal_torchs(name):
    layer, shape, *others = LAYERS[name]
    inputs, *parameters = tensors(shape, *others)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = second_order(layer, inputs, parameters)
    with second_order_mode():
        found = second_order(layer, inputs, parameters)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


DIFFERENT = (
    "conv grouped",
    "batch norm",
    "layer norm, large eps",
    "gelu",
    "hardswish",
    "silu",
    "silu in place",
    "attention",
    "attention, scaled",
)


@pytest.mark.parametrize("name", DIFFERENT)
def test_derivatives_agree_with_finite_differences(name):
    layer, shape, *others = LAYERS[name]
    arguments = tensors(shape, *others)

    def input_gradient(*values):
        with second_order_mode():
            outputs = layer(*values)
        return torch.autograd.grad(outputs.tanh().sum(), values[0], create_graph=True)[0]

    with second_order_mode():
        assert torch.autograd.gradcheck(layer, arguments)
    assert torch.autograd.gradcheck(input_gradient, arguments)


MODELS = (
    "resnet18",
    "mobilenetv2_050",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "test_efficientnet_gn",
    "mobilevit_xxs",
    "levit_128s",
)


@pytest.mark.parametrize("name", MODELS)
def test_a_networks_gradients_equal_torchs(name):
    torch.manual_seed(0)
    sized = {"img_size": 64}
    settings = {"vit": sized, "lev": sized, "res": {"zero_init_last": False}}.get(name[:3], {})
    model = timm.create_model(name, num_classes=4, drop_rate=0.0, drop_path_rate=0.0, **settings).double().train()
    images = torch.rand(3, 3, 64, 64, dtype=torch.float64)
    found = []
    for context in (torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), second_order_mode()):
        copied, leaf = copy.deepcopy(model), images.clone().requires_grad_()
        with context:
            logits = copied(leaf)
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), leaf, create_graph=True)
        (gradient.square().mean() + F.cross_entropy(logits, torch.arange(3))).backward()
        buffers = [buffer.double() for buffer in copied.buffers()]
        found.append([logits.detach(), *buffers, *[parameter.grad for parameter in copied.parameters()]])
    largest = max(float(parameter.grad.norm()) for parameter in copied.parameters())  # some gradients are exactly zero
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-10 * largest)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_hardtanh_clips_at_bounds_that_are_rounded(dtype):
    values = torch.tensor([5.0, 0.1, -5.0], dtype=dtype, requires_grad=True)
    with second_order_mode():
        outputs = F.hardtanh(values, -0.35, 0.35)
    (gradient,) = torch.autograd.grad(outputs.sum(), values)
    assert gradient.tolist() == [0, 1, 0]


def test_hardsigmoid_can_be_differentiated_twice():
    model = timm.create_model("mobilenetv3_small_050", num_classes=4).train()
    images = torch.rand(3, 3, 32, 32, requires_grad=True)
    with second_order_mode():
        logits = model(images)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images, create_graph=True)
    gradient.square().sum().backward()
    x = torch.linspace(-5, 5, 11)
    with second_order_mode():
        torch.testing.assert_close(F.hardsigmoid(x), torch.nn.Hardsigmoid()(x))
        y = x.clone()
        F.hardsigmoid(y, inplace=True)
    torch.testing.assert_close(y, F.hardsigmoid(x))
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_create_graph_on_parameters_and_third_order_are_errors():
    layer, images = nn.Conv2d(3, 2, 3), torch.rand(1, 3, 5, 5, requires_grad=True)
    with second_order_mode():
        outputs = layer(images).sigmoid().sum()
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(outputs, layer.weight, create_graph=True)
    (gradient,) = torch.autograd.grad(outputs, images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_layers_run_in_torchs_precision_under_autocast(name):
    torch.manual_seed(0)
    size = {"img_size": 32} if name.startswith("vit") else {}
    model, images = timm.create_model(name, num_classes=4, **size).train(), torch.rand(3, 3, 32, 32)
    found = []
    for context in (torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), second_order_mode()):
        copied, leaf = copy.deepcopy(model), images.clone().requires_grad_()
        types = []
        for module in copied.modules():
            if not list(module.children()):
                module.register_forward_hook(lambda module, inputs, output, types=types: types.append(output.dtype))
        with context, torch.autocast("cpu", torch.bfloat16):
            logits = copied(leaf)
        (gradient,) = torch.autograd.grad(logits[:, 0].float().sum(), leaf, create_graph=True)
        (gradient.square().sum() + logits.float().square().sum()).backward()
        found.append((types, gradient.detach(), [p.grad for p in copied.parameters()]))
    assert found[0][0] == found[1][0]
    for mine, torchs in zip(found[1][2], found[0][2], strict=True):
        assert mine.dtype == torchs.dtype
    cosine = F.cosine_similarity(found[0][1].flatten(), found[1][1].flatten(), dim=0)
    assert cosine > 0.95


@pytest.mark.parametrize(
    "options", [{}, {"attn_mask": None, "dropout_p": 0.0, "is_causal": False}, {"is_causal": True}]
)
def test_only_causal_attention_saves_a_token_matrix(options):
    def kept(context):
        sizes = []
        q, k, v = tensors((2, 3, 40, 4), (2, 3, 40, 4), (2, 3, 40, 4))
        with context, torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            outputs = F.scaled_dot_product_attention(q, k, v, **options)  # as timm calls it
            torch.autograd.grad(outputs.square().sum(), q, create_graph=True)
        return max(sizes)

    assert kept(second_order_mode()) == (2 * 3 * 40 * 40 if options.get("is_causal") else 2 * 3 * 40 * 4)
    assert kept(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)) >= 2 * 3 * 40 * 40
