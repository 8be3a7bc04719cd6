"""Checks of tensors that come from files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harmonizer.untrusted import shortened

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.bool)  # counters, indices and masks


def check_weights(weights: Mapping[Any, Any], path: Path, *, finite: bool = True) -> None:
    """Check that weights from a file are finite floats, and counters and indices integers.

    Raises:
        ValueError: A tensor is invalid; the message names it.
    """
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path}: expected tensors by name, got {shortened(name)}: {type(value).__name__}")
        shown = shortened(name)[1:-1]
        if value.is_complex():
            raise ValueError(f"{path}: expected finite real numbers in {shown}; it is not loaded")
        if value.dtype not in (FLOATS if name.endswith((".weight", ".bias")) else (*FLOATS, *WHOLE)):
            raise ValueError(
                f"{path}: expected floats in {shown}, got {value.dtype}; try the weights before quantisation"
            )
        if (
            value.is_meta
            or value.layout != torch.strided
            or value.numel() * value.itemsize > value.untyped_storage().nbytes()
        ):
            raise ValueError(f"{path}: expected each of the {value.numel()} values of {shown}; it is not loaded")
        if finite and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{path}: expected finite real numbers in {shown}; it is not loaded")
