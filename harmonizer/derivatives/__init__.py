"""Derivatives with respect to the images at the cost that arithmetic demands.

Second ones, for harmonizing: torch differentiates its convolutions, normalisations and activations twice through
detours: a convolution's weight gets its second-order gradient from a loop over groups, a batch normalisation its own
from a chain of some fifteen elementwise passes, and fused attention has none at all. Inside
:func:`twice_differentiable` the same layers run on closed forms that use the kernels of the first derivative again.
Values and gradients are those of torch, up to rounding; benchmarks/README.md says what that saves.

First ones, on a CPU: for attacks see :class:`image_differentiable`, and :class:`differentiable` for the samples of a
batch that have no human map.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from harmonizer.derivatives import company, image_gradient, small_maps
from harmonizer.derivatives.activation import GELU, HARDSWISH, RELU, SILU, Kind, activate, hardtanh, leaky_relu
from harmonizer.derivatives.attention import attend
from harmonizer.derivatives.casting import cast
from harmonizer.derivatives.chain import Link
from harmonizer.derivatives.convolution import Convolution, patches_convolution, takes_patches
from harmonizer.derivatives.image_gradient import FEW, ImageConvolution
from harmonizer.derivatives.leads import leading
from harmonizer.derivatives.normalisation import BatchNorm, LayerNorm
from harmonizer.derivatives.parts import apply_mlp, apply_self_attention, convolve
from harmonizer.derivatives.small_maps import as_products

__all__ = [
    "Link",
    "apply_mlp",
    "apply_self_attention",
    "convolve",
    "differentiable",
    "image_differentiable",
    "leading",
    "twice_differentiable",
]


Replacement = Callable[..., Tensor | None]  # None leaves the call to torch
Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]  # stride, padding, dilation and groups


class _Replaced(TorchFunctionMode):
    """Run some functions of torch as others of ours, where ours take the arguments."""

    replacements: Mapping[Callable[..., Any], Replacement]
    without_gradients = False  # replace where gradients are off, too

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever func returns
        named = dict(kwargs or {})
        replacement = self.replacements.get(func)
        if replacement is not None and (self.without_gradients or torch.is_grad_enabled()):
            if "input" in named:
                args = (named.pop("input"), *args)
            outputs = replacement(*args, **named)
            if outputs is not None:
                return outputs
        return func(*args, **named)


class twice_differentiable(_Replaced):
    """Run layers so that the gradient of a scalar with respect to the images can be differentiated fast.

    Under ``create_graph`` such layers give the gradient of their inputs only: asking for a parameter's there raises
    torch's error of an unused tensor. Any later backward pass reaches inputs and parameters alike. A third derivative
    raises an error. Layers and arguments that are not known here run as always, as do layers whose parameters are
    computed, and might depend on the images.

    >>> images = torch.rand(2, 3, 8, 8, requires_grad=True)
    >>> layer = torch.nn.Conv2d(3, 4, 3)
    >>> with twice_differentiable():
    ...     outputs = layer(images).square().sum()
    >>> (gradient,) = torch.autograd.grad(outputs, images, create_graph=True)
    >>> gradient.square().sum().backward()
    >>> layer.weight.grad.shape
    torch.Size([4, 3, 3, 3])
    """


class differentiable(_Replaced):
    """Run a network so that the gradients of inputs and parameters are fast on a CPU where few pixels are left.

    Under ``create_graph`` such layers give the gradient of their inputs only, as in :class:`twice_differentiable`.

    >>> layer, maps = torch.nn.Conv2d(256, 256, 3, padding=1), torch.rand(2, 256, 2, 2)
    >>> with differentiable():
    ...     outputs = layer(maps)
    >>> outputs.sum().backward()
    >>> layer.weight.grad.shape
    torch.Size([256, 256, 3, 3])
    """


class image_differentiable(_Replaced):
    """Run a network so that its outputs and the gradient of the images, and of nothing else, are fast on a CPU.

    In the first convolution few input channels leave torch's kernels idle, in the last ones few pixels do, and
    normalisations with fixed statistics compute their parameters' gradients, wanted or not; benchmarks/README.md says
    what it saves to do otherwise. The parameters of such layers count as constants here; layers whose parameters are
    computed, and might depend on the images, run as always. Small convolutions and the head give an image the same
    values alone as in company; see :mod:`harmonizer.derivatives.company`.

    >>> images = torch.rand(2, 3, 32, 32, requires_grad=True)
    >>> with image_differentiable():
    ...     outputs = torch.nn.Conv2d(3, 8, 7, stride=2, padding=3)(images)
    >>> torch.autograd.grad(outputs.sum(), images)[0].shape
    torch.Size([2, 3, 32, 32])
    """


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    first, *rest = (value,) if isinstance(value, int) else value
    return (first, *rest) if rest else (first, first)  # type: ignore[return-value]


def _computed(*parameters: Tensor | None) -> bool:
    """Tell whether a layer's parameters come out of a computation: they may depend on the images themselves."""
    return any(parameter is not None and parameter.grad_fn is not None for parameter in parameters)


def _convolution(replacement: Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor | None]) -> Replacement:
    """Return a stand-in for ``torch.conv2d`` that passes its arguments on in one form, where they have it."""

    def conv2d(
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if isinstance(padding, str) or inputs.ndim != 4 or _computed(weight, bias):
            return None
        return replacement(inputs, weight, bias, (_pair(stride), _pair(padding), _pair(dilation), groups))

    return conv2d


def _conv2d(inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor | None:
    tensors = cast(inputs, weight, bias)
    with torch.autocast(inputs.device.type, enabled=False):
        if takes_patches(inputs, weight, *geometry):
            return patches_convolution(*tensors)  # type: ignore[arg-type]
        products = as_products(*tensors, *geometry)  # type: ignore[arg-type, call-arg]
        outputs: Tensor = Convolution.apply(*tensors, *geometry) if products is None else products
    return outputs


def _conv2d_of_few_pixels(inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor | None:
    return None if torch.is_autocast_enabled("cpu") else as_products(inputs, weight, bias, *geometry)


def _conv2d_of_images(inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor | None:
    if inputs.device.type != "cpu":
        return None
    patches = weight.shape[1] <= FEW and takes_patches(inputs, weight, *geometry)
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if image_gradient.suits(inputs, weight, *geometry):
        tensors = cast(inputs, weight, bias)
        with torch.autocast("cpu", enabled=False):
            outputs: Tensor = ImageConvolution.apply(*tensors, geometry[0][0], geometry[1][0])
        return outputs
    if patches or small_maps.suits(inputs, weight, *geometry):
        return _conv2d(inputs, weight, bias, geometry)
    return company.convolve_lone(inputs, weight, bias, *geometry) if company.is_lone(inputs, weight) else None


def _batch_norm(
    inputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if not training or inputs.numel() <= inputs.shape[1] or _computed(weight, bias):
        return None  # fixed statistics need no second derivative; a single value is torch's error
    return BatchNorm.apply(inputs, weight, bias, running_mean, running_var, momentum, eps)  # type: ignore[no-any-return]


def _fixed_batch_norm(
    inputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None or _computed(weight, bias):
        return None
    last = inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)  # torch's is faster otherwise
    if inputs.device.type != "cpu" or inputs.dtype != running_mean.dtype or not last:
        return None
    scale = (running_var + eps).rsqrt() * (1 if weight is None else weight.detach())
    shift = (0 if bias is None else bias.detach()) - running_mean * scale
    return torch.addcmul(shift.view(1, -1, 1, 1), inputs, scale.view(1, -1, 1, 1))


def _global_average(inputs: Tensor, output_size: Any) -> Tensor | None:  # noqa: ANN401 - torch's own argument
    """Average all pixels of maps that lie channels last, and let their gradient lie so, too: torch's does not."""
    last = inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)
    if not last or inputs.device.type != "cpu" or output_size not in (1, (1, 1), [1, 1]):
        return None
    return inputs.permute(0, 2, 3, 1).mean((1, 2))[:, :, None, None]


def _layer_norm(
    inputs: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | None:
    if _computed(weight, bias):
        return None
    if torch.is_autocast_enabled(inputs.device.type):
        inputs = inputs.float()
    outputs: Tensor = LayerNorm.apply(inputs, tuple(normalized_shape), weight, bias, eps)
    return outputs


def _gelu(inputs: Tensor, *, approximate: str = "none") -> Tensor | None:
    return activate(inputs, GELU, inplace=False) if approximate == "none" else None


def _activation(kind: Kind) -> Replacement:
    return lambda inputs, inplace=False: activate(inputs, kind, inplace=inplace)


def _hardtanh(inputs: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor | None:
    if not min_val < max_val:
        return None  # torch's error
    return activate(inputs, hardtanh(float(min_val), float(max_val)), inplace=inplace)


def _leaky_relu(inputs: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor | None:
    if not negative_slope > 0:
        return None  # the slope of a value cannot be told from the result
    return activate(inputs, leaky_relu(float(negative_slope)), inplace=inplace)


def _hardsigmoid(inputs: Tensor, inplace: bool = False) -> Tensor:
    """Write ``F.hardsigmoid``, which torch differentiates only once, with a function that it does twice."""
    outputs = F.relu6(inputs + 3) / 6
    return inputs.copy_(outputs) if inplace else outputs


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
    query, key, value = cast(query, key, value)  # type: ignore[assignment]
    with torch.autocast(query.device.type, enabled=False):
        return attend(query, key, value, *args, **kwargs)


twice_differentiable.replacements = {
    torch.conv2d: _convolution(_conv2d),
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.gelu: _gelu,
    F.hardswish: _activation(HARDSWISH),
    F.hardtanh: _hardtanh,
    F.leaky_relu: _leaky_relu,
    F.relu: _activation(RELU),
    torch.relu: _activation(RELU),
    Tensor.relu: _activation(RELU),
    F.relu6: _activation(hardtanh(0.0, 6.0)),
    F.silu: _activation(SILU),
    F.hardsigmoid: _hardsigmoid,
    F.scaled_dot_product_attention: _attention,
}
differentiable.replacements = {torch.conv2d: _convolution(_conv2d_of_few_pixels)}
image_differentiable.without_gradients = True
image_differentiable.replacements = {
    torch.conv2d: _convolution(_conv2d_of_images),
    F.batch_norm: _fixed_batch_norm,
    F.linear: company.linear,
    F.adaptive_avg_pool2d: _global_average,
}
