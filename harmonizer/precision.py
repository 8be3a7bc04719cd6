"""Number formats: where full precision is needed under autocast, and whether matrix units may round to TF32."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Switch autocast off, for arithmetic that must be done in float32 at least.

    Args:
        device: Whose autocast.
    """
    context: AbstractContextManager[None] = torch.autocast(device.type, enabled=False)
    return context


def promoted(values: Tensor) -> Tensor:
    """Return values in float32 at least; float64 stays.

    >>> promoted(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def allow_tf32(allowed: bool) -> None:
    """Let matrix products and convolutions of float32 on NVIDIA GPUs round their factors to TF32, or not.

    Args:
        allowed: True is faster, with 10 bits of mantissa instead of 23.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
