"""Casts to autocast's type, for layers that run as functions of this package."""

import torch
from torch import Tensor


def cast(*tensors: Tensor | None) -> list[Tensor | None]:
    """Cast tensors as autocast would for layers that it runs in lower precision."""
    device = tensors[0].device.type if tensors[0] is not None else "cpu"
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [tensor if tensor is None or not tensor.is_floating_point() else tensor.to(dtype) for tensor in tensors]
