"""Parts of a transformer that run as one function, compared with torch's own layers."""

import pytest
import torch
import torch.nn.functional as F

from harmonizer.fast.blocks.functional import apply_mlp, apply_self_attention
from harmonizer.fast.blocks.prefix import batch_prefix
from harmonizer.fast.second_order import second_order_mode

SHAPES = {"x": (5, 4, 6), "w1": (12, 6), "b1": (12,), "w2": (6, 4), "b2": (6,), "w": (6,), "b": (6,)}
HEADS = 2


def torchs_mlp(x, w1, b1, w2, b2, w=None, b=None):
    inputs = x if w is None else F.layer_norm(x, (6,), w, b, 0.1)
    outputs = F.linear(F.gelu(F.linear(inputs, w1, b1)), w2, b2)
    return outputs if w is None else x + outputs


def torchs_attention(x, w1, b1, w2, b2, w=None, b=None, queries=None):
    inputs = x if w is None else F.layer_norm(x, (6,), w, b, 0.1)
    q, k, v = F.linear(inputs, w1, b1).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    outputs = F.softmax(0.6 * q[:, :, :queries] @ k.mT, -1) @ v
    outputs = F.linear(outputs.transpose(1, 2).flatten(2), w2, b2)
    return outputs if w is None else x[:, :queries] + outputs


def our_mlp(x, w1, b1, w2, b2, w=None, b=None):
    return apply_mlp(x, (w1, b1, w2, b2), None if w is None else (w, b, 0.1))


def our_attention(x, w1, b1, w2, b2, w=None, b=None, queries=None):
    norm = None if w is None else (w, b, 0.1)
    return apply_self_attention(x, (w1, b1, w2, b2), norm, heads=HEADS, scale=0.6, queries=queries)


PARTS = {"mlp": (our_mlp, torchs_mlp, {}), "attention": (our_attention, torchs_attention, {})}
PARTS["class token"] = (our_attention, torchs_attention, {"queries": 1})


def arguments(part, *, biased=True, branch=True, tokens=4):
    """Make float64 leaves; with two channels per head, attention to four tokens saves no token-by-token matrix."""
    generator = torch.Generator().manual_seed(0)
    shapes = SHAPES | {"x": (5, tokens, 6)} | ({"w2": (6, 12)} if part == "mlp" else {})
    shapes = {name: shape for name, shape in shapes.items() if branch or name not in ("w", "b")}
    made = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for name, shape in shapes.items()
    }
    return made if biased else made | {"b1": None, "b2": None}


def differentiate(function, values, lead=5, settings=None):
    """Differentiate a function of all outputs and of the first ``lead`` samples' input gradient; the rest is zero."""
    outputs = function(**values, **(settings or {}))
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).reshape(outputs.shape)
    scalars = (outputs.tanh() * weights).sum((1, 2))
    (gradient,) = torch.autograd.grad(scalars[:lead].sum(), values["x"], create_graph=True)
    loss = gradient.square().sum() + gradient.sin().sum() + scalars.square().sum()
    leaves = [value for value in values.values() if value is not None and value.requires_grad]
    return [outputs.detach(), gradient.detach(), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("tokens", [2, 4])  # with and without saved token-by-token matrices
@pytest.mark.parametrize("lead", [5, 2])
@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_values_and_all_derivatives_equal_torchs(part, biased, branch, lead, tokens):
    ours, torchs, settings = PARTS[part]
    values = arguments(part, biased=biased, branch=branch, tokens=tokens)
    expected = differentiate(torchs, values, lead, settings)
    with second_order_mode(), batch_prefix(lead):
        found = differentiate(ours, values, lead, settings)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("part", PARTS)
def test_derivatives_agree_with_finite_differences(part):
    ours, _, settings = PARTS[part]
    values = arguments(part)

    def outputs(*tensors):
        return ours(*tensors, **settings)

    def gradient(*tensors):
        return torch.autograd.grad(outputs(*tensors).tanh().sum(), tensors[0], create_graph=True)[0]

    assert torch.autograd.gradcheck(outputs, list(values.values()))
    assert torch.autograd.gradcheck(gradient, list(values.values()))


@pytest.mark.parametrize("frozen", [("w1",), ("w2", "b2"), ("w", "b"), ("w1", "b1", "w2", "b2", "w", "b")])
@pytest.mark.parametrize("part", PARTS)
def test_frozen_weights_change_no_other_gradient(part, frozen):
    ours, torchs, settings = PARTS[part]
    values = arguments(part)
    for name in frozen:
        values[name] = values[name].detach()
    found, expected = (differentiate(function, values, settings=settings) for function in (ours, torchs))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("part", PARTS)
def test_a_loss_of_the_gradient_alone_has_torchs_gradients(part):
    ours, torchs, settings = PARTS[part]
    values = arguments(part)
    found = []
    for function in (ours, torchs):
        outputs = function(**values, **settings)
        (gradient,) = torch.autograd.grad(outputs.tanh().sum(), values["x"], create_graph=True)
        found.append(torch.autograd.grad(gradient.pow(2).sum(), list(values.values()), allow_unused=True))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("part", PARTS)
def test_a_retained_graph_gives_the_same_gradients_again(part):
    ours, _, settings = PARTS[part]
    values = arguments(part)
    leaves = list(values.values())
    outputs = ours(**values, **settings).tanh().sum()
    plain = torch.autograd.grad(outputs, leaves, retain_graph=True)
    (gradient,) = torch.autograd.grad(outputs, values["x"], create_graph=True)
    (other,) = torch.autograd.grad(outputs, values["x"], create_graph=True)  # a second graph of the same gradient
    first = torch.autograd.grad(gradient.square().sum(), leaves, retain_graph=True, allow_unused=True)
    again = torch.autograd.grad(other.square().sum(), leaves, retain_graph=True, allow_unused=True)
    both = torch.autograd.grad(gradient.square().sum() + other.square().sum(), leaves, retain_graph=True)
    torch.testing.assert_close(again, first)
    torch.testing.assert_close(list(both), [2 * value for value in first])
    torch.testing.assert_close(torch.autograd.grad(outputs, leaves), plain)


@pytest.mark.parametrize("part", PARTS)
def test_a_third_derivative_is_refused(part):
    ours, _, settings = PARTS[part]
    values = arguments(part)
    (gradient,) = torch.autograd.grad(ours(**values, **settings).tanh().sum(), values["x"], create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), values["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


@pytest.mark.parametrize("lead", [5, 2])
def test_layer_norm_with_a_batch_prefix_equals_torchs(lead):
    values = {"x": arguments("mlp")["x"], "w": torch.rand(6).double().requires_grad_(), "b": None}

    def norm(x, w, b):
        return F.layer_norm(x, (6,), w, b, 0.1)

    expected = differentiate(norm, values, lead)
    with second_order_mode(), batch_prefix(lead):
        found = differentiate(norm, values, lead)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
