"""Layers whose input gradient can be differentiated again at the cost of first derivatives.

torch computes second derivatives by detours: a loop over groups for a convolution's weight, some fifteen elementwise
passes for a batch normalisation; fused attention has no second derivative at all. These closed forms run on the kernels
of the first derivative; benchmarks/README.md shows the gain.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.fast.activation import GELU, HARDSWISH, RELU, SILU, Kind, activate, hardtanh, leaky_relu
from harmonizer.fast.attention import attend
from harmonizer.fast.autocast import cast
from harmonizer.fast.convolution import Convolution, patches_convolution, takes_patches
from harmonizer.fast.cpu.small_conv import conv_as_matmul
from harmonizer.fast.mode import BatchNormCall, Geometry, LayerMode, Replacement, computed, replaced_conv2d
from harmonizer.fast.normalisation import BatchNorm, LayerNorm


class second_order_mode(LayerMode):
    """Run layers so that the gradient of a scalar with respect to the images can be differentiated fast.

    Under ``create_graph`` such layers return the gradient of their inputs only; requesting a parameter's raises torch's
    error for an unused tensor. Any later backward pass reaches inputs and parameters alike. A third derivative raises
    an error. Unknown layers and arguments run as in torch, as do layers whose parameters are computed, and may depend
    on the images.

    >>> images = torch.rand(2, 3, 8, 8, requires_grad=True)
    >>> layer = torch.nn.Conv2d(3, 4, 3)
    >>> with second_order_mode():
    ...     outputs = layer(images).square().sum()
    >>> (gradient,) = torch.autograd.grad(outputs, images, create_graph=True)
    >>> gradient.square().sum().backward()
    >>> layer.weight.grad.shape
    torch.Size([4, 3, 3, 3])
    """


class torch_second_order_mode(LayerMode):
    """Run torch's own layers, and write out those without a second derivative in torch.

    >>> images = torch.rand(2, 3, requires_grad=True)
    >>> with torch_second_order_mode():
    ...     (gradient,) = torch.autograd.grad(F.hardsigmoid(images).square().sum(), images, create_graph=True)
    >>> gradient.sum().backward()
    """


def conv2d(inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor | None:
    """Convolve by the fastest available method; see :class:`harmonizer.fast.convolution.Convolution`."""
    tensors = cast(inputs, weight, bias)
    with torch.autocast(inputs.device.type, enabled=False):
        if takes_patches(inputs, weight, *geometry):
            return patches_convolution(*tensors)  # type: ignore[arg-type]
        products = conv_as_matmul(*tensors, *geometry)  # type: ignore[arg-type, call-arg]
        outputs: Tensor = Convolution.apply(*tensors, geometry) if products is None else products
    return outputs


def _batch_norm(*args: Any, **named: Any) -> Tensor | None:
    inputs, mean, variance, weight, bias, training, momentum, eps = BatchNormCall(*args, **named)
    if not training or inputs.numel() <= inputs.shape[1] or computed(weight, bias):
        return None  # fixed statistics need no second derivative; torch raises the error for a single value
    return BatchNorm.apply(inputs, weight, bias, mean, variance, momentum, eps)


def _layer_norm(
    inputs: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | None:
    if computed(weight, bias):
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
        return None  # torch raises the error
    return activate(inputs, hardtanh(float(min_val), float(max_val)), inplace=inplace)


def _leaky_relu(inputs: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor | None:
    if not negative_slope > 0:
        return None  # the sign of the output then does not determine the slope
    return activate(inputs, leaky_relu(float(negative_slope)), inplace=inplace)


def _hardsigmoid(inputs: Tensor, inplace: bool = False) -> Tensor:
    """Compute ``F.hardsigmoid``, which torch differentiates only once, by a function with a second derivative."""
    outputs = F.relu6(inputs + 3) / 6
    return inputs.copy_(outputs) if inplace else outputs


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    query, key, value = cast(query, key, value)  # type: ignore[assignment]
    with torch.autocast(query.device.type, enabled=False):
        return attend(query, key, value, *args, **kwargs)


second_order_mode.replacements = {
    torch.conv2d: replaced_conv2d(conv2d),
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
torch_second_order_mode.replacements = {F.hardsigmoid: _hardsigmoid}
