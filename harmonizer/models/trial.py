"""Run a model once before a long run, to find errors and suspicious outputs early."""

import sys

import torch
from torch import Tensor, nn

from harmonizer.models.logits import evaluation_mode
from harmonizer.models.pixel_model import PixelModel


def try_model(model: PixelModel, name: str, size: int, num_classes: int | None = None, *, own: bool) -> None:
    """Run two images through a model.

    Args:
        model: Model to try.
        name: Name for messages.
        size: Height and width of the images in pixels.
        num_classes: Expected number of logits; None accepts any.
        own: The model is the user's code: report its errors in one line and check its outputs.

    Raises:
        ValueError: The model fails, or does not return logits for the classes.
    """
    noise = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(model.mean.device)
    try:
        with evaluation_mode(model), torch.no_grad():
            logits = [model(images) for images in (torch.zeros_like(noise), noise)]
    except Exception as error:  # any: may come from the user's code
        if not own:
            raise
        reason = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {reason}; try another image_size=PIXELS"
        raise ValueError(f"{name} fails on an image (1,3,{size},{size}): {reason}") from error
    if logits[0].ndim != 2:
        raise ValueError(f"expected logits (B,K), got {tuple(logits[0].shape)}")
    if num_classes is not None and logits[0].shape[1] != num_classes:
        hint = "; let the function take num_classes" * own
        raise ValueError(f"expected {num_classes} logits, one per class of the data, got {logits[0].shape[1]}{hint}")
    if own:
        warn_of_probabilities(torch.cat(logits), name)


def warn_of_normalisation(model: nn.Module, name: str) -> None:
    """Warn if a model seems to normalise images itself although mean and std are given."""
    for where, module in model.named_modules():
        constants = {key: value for key, value in module.named_buffers(recurse=False) if value.numel() == 3}
        named = any("mean" in key for key in constants) and any("std" in key for key in constants)
        if named or type(module).__name__ == "Normalize":
            sys.stderr.write(
                f"warning: {name} seems to normalise images itself ({where or type(module).__name__}); with mean and "
                "std they are normalised twice: compare the accuracy without mean and std\n"
            )
            return


def warn_of_probabilities(logits: Tensor, name: str) -> None:
    """Warn if a model's outputs (B,K) are probabilities, which flatten the measured gradients."""
    sums = logits.double().sum(1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all()):
        sys.stderr.write(
            f"warning: {name} returns probabilities, expected logits: remove its softmax, which flattens the gradients "
            "that attacks and saliency follow\n"
        )
