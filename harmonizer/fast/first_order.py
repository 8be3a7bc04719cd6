"""First derivatives on a CPU: of the images alone, for attacks; of parameters, for samples without a human map."""

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
    """Run a network so that the gradients of inputs and parameters are fast on a CPU where few pixels are left.

    Under ``create_graph`` such layers give the gradient of their inputs only, as in :class:`second_order_mode`.

    >>> layer, maps = torch.nn.Conv2d(256, 256, 3, padding=1), torch.rand(2, 256, 2, 2)
    >>> with parameter_gradient_mode():
    ...     outputs = layer(maps)
    >>> outputs.sum().backward()
    >>> layer.weight.grad.shape
    torch.Size([256, 256, 3, 3])
    """


class input_gradient_mode(LayerMode):
    """Run a network so that its outputs and the gradient of the images, and of nothing else, are fast on a CPU.

    In the first convolution few input channels leave torch's kernels idle, in the last ones few pixels do, and
    normalisations with fixed statistics compute their parameters' gradients, wanted or not; benchmarks/README.md says
    what it saves to do otherwise. The parameters of such layers count as constants here; layers whose parameters are
    computed, and might depend on the images, run as always. Small convolutions and the head give an image the same
    values alone as in company; see :mod:`harmonizer.fast.cpu.batch_invariance`.

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
    last = inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)  # torch's is faster otherwise
    if inputs.device.type != "cpu" or inputs.dtype != mean.dtype or not last:
        return None
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight.detach())
    shift = (0 if bias is None else bias.detach()) - mean * scale
    return torch.addcmul(shift.view(1, -1, 1, 1), inputs, scale.view(1, -1, 1, 1))


def _global_average(inputs: Tensor, output_size: Any) -> Tensor | None:
    """Average all pixels of maps that lie channels last, and let their gradient lie so, too: torch's does not."""
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
