"""The verdict on a model's answer, common to all attacks: always in full precision."""

import torch
from torch import Tensor

from harmonizer.attacks.network import Network


def is_constant(net: Network, images: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
    """Say for which of ``rows`` (n,) the model answers black, white and noise exactly as it answers the image.

    A zero gradient has two causes. A model that ignores its input cannot be fooled, and its radius is censored; one
    that only hides its gradient can be, and the attack failed.

    Args:
        net: The frozen model.
        images: (n,3,H,W) the clean images of ``rows``.
        logits: (n,K) their logits.
        rows: (n,) int64.

    Returns:
        (n,) bool.
    """
    noise = torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(images)
    constant = torch.ones_like(rows, dtype=torch.bool)
    for probe in (torch.zeros_like(noise), torch.ones_like(noise), noise):
        constant &= (net.logits(probe.expand_as(images), rows) == logits).all(1)
    return constant
