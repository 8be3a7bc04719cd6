"""Logits from any model, whatever its output format and float type, even if it changes its input in place."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

EXACT = (torch.float32, torch.float64)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; restore the mode of each submodule afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def as_logits(output: Any, count: int) -> Tensor:  # noqa: ANN401 - what a model returns
    """Return the logits in a model's output.

    Args:
        output: A tensor, an object or a dictionary with ``logits``, or a tuple of which only the first value has the
            shape (count,K).
        count: Number of images.

    Raises:
        TypeError: The output is something else.

    >>> as_logits((torch.ones(2, 5), torch.ones(2, 7, 7)), 2).shape
    torch.Size([2, 5])
    """
    if isinstance(output, Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    if isinstance(output, tuple | list) and output:
        rows = [isinstance(value, Tensor) and value.ndim == 2 and len(value) == count for value in output]
        if rows[0] and not any(rows[1:]):
            return cast(Tensor, output[0])
    raise TypeError(
        f"expected a model that returns logits ({count},K), got {_described(output)}; "
        "try a wrapper whose forward returns the logits alone"
    )


class Caller:
    """Call a model on images (n,3,H,W) and return its logits (n,K).

    The model gets the images unchanged at first. If it fails for a known reason, it is called again: with images of its
    own type if that is float32 or float64, or with a copy if it changes its input in place. Later calls do the same.

    Args:
        model: Maps images in [0,1] to logits, in any form that :func:`as_logits` takes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._dtype: torch.dtype | None = None  # the model's type, if it takes no other
        self._copies = False

    def __call__(self, images: Tensor, run: Callable[[Tensor], Any] | None = None) -> Tensor:
        """Return the logits, in the images' type unless the model's is less precise.

        Args:
            images: (n,3,H,W) float32 or float64.
            run: Function that calls the model; None calls it directly.

        Raises:
            TypeError: The model does not return logits, or not one row per image.
            ValueError: Its weights or logits are less precise than float32, or it takes images (n,H,W,3).
        """
        run = self.model if run is None else run
        try:
            output = run(self._prepared(images))
        except (RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError) or not self._adapt(images, error, run):
                raise
            output = run(self._prepared(images))
        logits = as_logits(output, len(images))
        if logits.ndim == 2 and len(logits) != len(images):
            raise TypeError(f"expected logits ({len(images)},K), one row per image, got {tuple(logits.shape)}")
        if logits.dtype not in EXACT and not torch.is_autocast_enabled(images.device.type):
            raise ValueError(f"expected logits in float32 or float64, got {logits.dtype}; try model.float()")
        if self._dtype is None or torch.promote_types(logits.dtype, images.dtype) == images.dtype:
            return logits
        # A constant shared by all logits would cost precision in the narrower type.
        return (logits - logits.detach().amax(1, keepdim=True)).to(images.dtype)

    def _prepared(self, images: Tensor) -> Tensor:
        if self._dtype is not None and images.dtype != self._dtype:
            return images.to(self._dtype)
        return images.clone() if self._copies else images

    def _adapt(self, images: Tensor, error: Exception, run: Callable[[Tensor], Any]) -> bool:
        """Return whether another call can succeed; raise an error with advice if it cannot for a known reason."""
        if "a leaf Variable that requires grad" in str(error) and not self._copies:
            self._copies = True
            return True
        types = {value.dtype for value in self.model.parameters() if value.is_floating_point()}
        if self._dtype is None and len(types) == 1 and images.dtype not in types:
            (own,) = types
            if own not in EXACT:
                raise ValueError(
                    f"expected a model in float32 or float64, got {own} weights; try model.float(), "
                    f"with amp={own} for gradients in {own}"
                ) from error
            log.warning("the model is in %s: the %s images are converted", own, images.dtype)
            self._dtype = own
            return True
        if images.ndim == 4 and images.shape[1] != images.shape[3] and self._takes_channels_last(images, run):
            raise ValueError(
                f"expected a model of images (n,3,H,W), got one that takes (n,H,W,3) and fails on "
                f"{tuple(images.shape)}; try a wrapper that calls it with images.permute(0, 2, 3, 1)"
            ) from error
        return False

    @staticmethod
    def _takes_channels_last(images: Tensor, run: Callable[[Tensor], Any]) -> bool:
        try:
            with torch.no_grad():
                as_logits(run(images.detach().permute(0, 2, 3, 1).contiguous()), len(images))
        except Exception:  # any: the first error is reported
            return False
        return True


def _described(output: Any) -> str:  # noqa: ANN401 - what a model returned
    """Return the type of an output and its shapes."""
    if isinstance(output, Mapping):
        inside = ", ".join(f"{name!r}: {_shape(value)}" for name, value in list(output.items())[:4])
        return f"{type(output).__name__} of {inside}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {', '.join(map(_shape, output[:4])) or 'nothing'}"
    return type(output).__name__


def _shape(value: Any) -> str:  # noqa: ANN401 - a part of what a model returned
    return f"tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
