"""Convolutions and ReLUs in a row, as one function of the images, on a CPU.

What lies between the layers belongs to nobody else there, so that a ReLU is computed in place, and so is its gradient:
in the first layers of a small network their memory takes longer than the arithmetic.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harmonizer.fast.cpu.stem_gradient import image_gradient, is_supported

Pair = tuple[int, int]


class Link(NamedTuple):
    """A convolution, and whether a ReLU follows."""

    weight: Tensor
    bias: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    active: bool

    @property
    def geometry(self) -> tuple[Tensor, Pair, Pair, Pair, int]:
        """The weight, and how it is laid on the maps."""
        return self.weight, self.stride, self.padding, self.dilation, self.groups


class Chain(Function):
    """Map images (B,C,H,W) through links, whose parameters count as constants."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, links: Sequence[Link]) -> Tensor:
        maps = [images]
        for link in links:
            outputs = torch.conv2d(maps[-1], *link[:-1])
            maps.append(outputs.relu_() if link.active else outputs)
        # What only its shape is needed of may be changed by others.
        images_gone = is_supported(images, *links[0].geometry)
        ctx.save_for_backward(None if images_gone else images, *maps[1:-1], maps[-1] if links[-1].active else None)
        ctx.size = images.shape[2:]
        ctx.links = links
        return maps[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        *maps, outputs = ctx.saved_tensors
        given = True  # by autograd, which may give the same tensor to others
        for link, inputs in zip(reversed(ctx.links), reversed(maps), strict=True):
            if link.active and given:
                gradient = torch.ops.aten.threshold_backward(gradient, outputs, 0)
            elif link.active:
                torch.ops.aten.threshold_backward.grad_input(gradient, outputs, 0, grad_input=gradient)
            size = ctx.size if inputs is None else inputs.shape[2:]
            gradient, outputs, given = _input_gradient(gradient, inputs, size, link), inputs, False
        return gradient, None


def _input_gradient(gradient: Tensor, inputs: Tensor | None, size: Sequence[int], link: Link) -> Tensor:
    weight, stride, padding, dilation, groups = link.geometry
    if is_supported(gradient, *link.geometry):
        return image_gradient(gradient, weight, size, stride[0], padding[0])
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, stride, padding, dilation, False, [0, 0], groups, [True, False, False]
    )[0]
    return found
