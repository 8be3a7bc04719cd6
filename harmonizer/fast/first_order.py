"""First derivatives on a CPU: of the images alone, for attacks; of parameters, for images without a human map."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonizer.fast.autocast import cast
from harmonizer.fast.convolution import takes_patches
from harmonizer.fast.cpu import batch_invariance, small_conv, stem_gradient
from harmonizer.fast.mode import BatchNormCall, Geometry, LayerMode, computed, replaced_conv2d
from harmonizer.fast.second_order import conv2d


class parameter_gradient_mode(LayerMode):
    """Compute the gradients of inputs and parameters fast on a CPU in convolutions with few output pixels.

    Under ``create_graph`` such layers return the gradient of their inputs only, as in :class:`second_order_mode`.

    >>> layer, maps = torch.nn.Conv2d(256, 256, 3, padding=1), torch.rand(2, 256, 2, 2)
    >>> with parameter_gradient_mode():
    ...     outputs = layer(maps)
    >>> outputs.sum().backward()
    >>> layer.weight.grad.shape
    torch.Size([256, 256, 3, 3])
    """


class input_gradient_mode(LayerMode):
    """Compute a network's outputs and the gradient of the images, and no other gradient, fast on a CPU.

    torch's kernels are slow for the few input channels of the first convolution and for the few pixels of the last
    ones, and its normalisations with fixed statistics always compute their parameters' gradients; benchmarks/README.md
    shows the gain. The parameters of these layers are treated as constants. Layers whose parameters are computed, and
    may depend on the images, run as in torch. Small convolutions and the head compute the same values for an image
    alone and in a batch; see :mod:`harmonizer.fast.cpu.batch_invariance`.

    >>> images = torch.rand(2, 3, 32, 32, requires_grad=True)
    >>> with input_gradient_mode():
    ...     outputs = torch.nn.Conv2d(3, 8, 7, stride=2, padding=3)(images)
    >>> torch.autograd.grad(outputs.sum(), images)[0].shape
    torch.Size([2, 3, 32, 32])
    """


def _small_conv2d(inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor | None:
    return None if torch.is_autocast_enabled("cpu") else small_conv.conv_as_matmul(inputs, weight, bias, *geometry)


def _conv2d_of_images(inputs: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor | None:
    if inputs.device.type != "cpu":
        return None
    patches = weight.shape[1] <= stem_gradient.FEW and takes_patches(inputs, weight, *geometry)
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if stem_gradient.is_supported(inputs, weight, *geometry):
        tensors = cast(inputs, weight, bias)
        with torch.autocast("cpu", enabled=False):
            outputs: Tensor = stem_gradient.ImageConvolution.apply(*tensors, geometry[0][0], geometry[1][0])
        return outputs
    if patches or small_conv.is_supported(inputs, weight, *geometry):
        return conv2d(inputs, weight, bias, geometry)
    if batch_invariance.is_single(inputs, weight):
        return batch_invariance.conv2d_single(inputs, weight, bias, *geometry)
    return None


def _fixed_batch_norm(*args: Any, **named: Any) -> Tensor | None:
    inputs, mean, variance, weight, bias, training, _, eps = BatchNormCall(*args, **named)
    if training or mean is None or variance is None or computed(weight, bias):
        return None
    last = inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)  # otherwise torch is faster
    if inputs.device.type != "cpu" or inputs.dtype != mean.dtype or not last:
        return None
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight.detach())
    shift = (0 if bias is None else bias.detach()) - mean * scale
    return torch.addcmul(shift.view(1, -1, 1, 1), inputs, scale.view(1, -1, 1, 1))


def _global_average(inputs: Tensor, output_size: Any) -> Tensor | None:
    """Average all pixels of channels-last maps; unlike torch's, the gradient is channels last, too."""
    last = inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)
    if not last or inputs.device.type != "cpu" or output_size not in (1, (1, 1), [1, 1]):
        return None
    return inputs.permute(0, 2, 3, 1).mean((1, 2))[:, :, None, None]


parameter_gradient_mode.replacements = {torch.conv2d: replaced_conv2d(_small_conv2d)}
input_gradient_mode.without_gradients = True
input_gradient_mode.replacements = {
    torch.conv2d: replaced_conv2d(_conv2d_of_images),
    F.batch_norm: _fixed_batch_norm,
    F.linear: batch_invariance.linear,
    F.adaptive_avg_pool2d: _global_average,
}
