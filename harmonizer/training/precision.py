"""Numerical precision, and the seeds of random numbers."""

from contextlib import AbstractContextManager

import lightning as L
import torch
from torch import Tensor

from harmonizer.fast import fast as switch


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Switch autocast off, for arithmetic that needs at least float32."""
    context: AbstractContextManager[None] = torch.autocast(device.type, enabled=False)
    return context


def promoted(values: Tensor) -> Tensor:
    """Return values in float32 at least; float64 stays.

    >>> promoted(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def set_numerics(*, tf32: bool = False, fast: str = "auto") -> None:
    """Choose the arithmetic of this process.

    Args:
        tf32: Let float32 matrix products and convolutions on NVIDIA GPUs round their factors to TF32: faster, with a
            mantissa of 10 bits instead of 23.
        fast: ``auto``, ``core`` or ``off``; see :mod:`harmonizer.fast`.

    Raises:
        ValueError: ``fast`` is not one of these.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    switch.set(fast)


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch.

    Raises:
        ValueError: The seed is not a whole number, or is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"expected a seed that is a whole number from 0 to {2**32 - 1}, got {seed}")
    L.seed_everything(seed, verbose=False)
