"""Torch function modes that replace layers by functions of this package, where those support the arguments."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Replacement = Callable[..., Tensor | None]  # None leaves the call to torch
Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]  # stride, padding, dilation and groups


class LayerMode(TorchFunctionMode):
    """Replace functions of torch by others, where those support the arguments."""

    replacements: Mapping[Callable[..., Any], Replacement]
    without_gradients = False  # replace where gradients are off, too

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        replacement = self.replacements.get(func)
        if replacement is not None and (self.without_gradients or torch.is_grad_enabled()):
            if "input" in named:
                args = (named.pop("input"), *args)
            outputs = replacement(*args, **named)
            if outputs is not None:
                return outputs
        return func(*args, **named)


class BatchNormCall(NamedTuple):
    """The arguments of ``F.batch_norm``."""

    inputs: Tensor
    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    first, *rest = (value,) if isinstance(value, int) else value
    return (first, *rest) if rest else (first, first)  # type: ignore[return-value]


def computed(*parameters: Tensor | None) -> bool:
    """Return whether a layer's parameters are results of a computation, and may depend on the images."""
    return any(parameter is not None and parameter.grad_fn is not None for parameter in parameters)


def replaced_conv2d(replacement: Callable[[Tensor, Tensor, Tensor | None, Geometry], Tensor | None]) -> Replacement:
    """Return a replacement for ``torch.conv2d`` that calls ``replacement`` with arguments of one form, if possible."""

    def conv2d(
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if isinstance(padding, str) or inputs.ndim != 4 or computed(weight, bias):
            return None
        return replacement(inputs, weight, bias, (_pair(stride), _pair(padding), _pair(dilation), groups))

    return conv2d
