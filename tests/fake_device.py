"""A fake device: its tensors are in the CPU's memory, but cannot be mixed with CPU tensors.

Operations that a GPU would refuse with "expected all tensors to be on the same device" fail here as well, and code that
checks ``device.type == "cpu"`` takes the other branch. Autocast, streams and speed are not those of a GPU.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")  # besides the CPU, the one device that every build of torch has, with gradients
CROSSES = {"copy_", "_to_copy"}  # copies between devices
NUMBERS = (
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "where",
    "maximum",
    "minimum",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "clamp",
)
INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_"}  # a GPU tensor accepts indices on the CPU


class Elsewhere(Tensor):
    """A tensor on the fake device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "layout": held.layout}
        return Tensor._make_wrapper_subclass(cls, held.size(), dtype=held.dtype, device=DEVICE, **layout)

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        return self.held.tolist()


class _Mode(TorchDispatchMode):
    """Make new tensors on the fake device if they are requested there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """Redirect ``torch.tensor`` and ``torch.as_tensor``, under any imported name, to the fake device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func not in (torch.tensor, torch.as_tensor) or device is None or torch.device(device) != DEVICE:
            return func(*args, **kwargs)
        return to(func(*args, **kwargs | {"device": "cpu"}))


@contextmanager
def pretended() -> Iterator[None]:
    """Make the fake device known to functions that make tensors, and to autocast, which treats it as the CPU."""

    def known(device: str | torch.device) -> str:
        name = torch.device(device).type
        return "cpu" if name == DEVICE.type else name

    enabled = torch.is_autocast_enabled

    class Autocast(torch.autocast):
        def __init__(self, device_type, *args, **kwargs):
            super().__init__(known(device_type), *args, **kwargs)

    def new_tensor(self, values, *, dtype=None):
        tensor = as_before(values, dtype=dtype or self.dtype)
        return to(tensor) if isinstance(self, Elsewhere) else tensor

    as_before = torch.tensor
    with (
        patch.object(Tensor, "new_tensor", new_tensor),
        patch.object(torch, "autocast", Autocast),
        patch.object(torch, "is_autocast_enabled", lambda *device: enabled(*map(known, device))),
        patch.object(torch, DEVICE.type, SimpleNamespace(), create=True),  # torch.random needs it up to torch 2.5
        _FromNumbers(),
        _Mode(),
    ):
        yield


def to(tensor: Tensor) -> Elsewhere:
    """Return a copy of a CPU tensor on the fake device."""
    return Elsewhere(tensor.detach().clone())


def moved(model: nn.Module) -> nn.Module:
    """Return a copy of a model on the fake device."""
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(to(value), value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = to(value)
    return model


def back(tensor: Tensor) -> Tensor:
    """Return a tensor's values on the CPU; fail unless it is on the fake device."""
    assert isinstance(tensor, Elsewhere)
    return tensor.detach().held


def _run(func, args, kwargs):
    """Run a function on the held CPU tensors, and return its outputs on the right device."""
    name = func._schema.name.split("::")[1]
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [isinstance(leaf, Elsewhere) for leaf in leaves]
    goes = mixed = any(there)
    if name in INDEXES:
        goes = there[0]
        if mixed and not goes:
            raise RuntimeError(f"{func}: indices on a device into a tensor on the CPU")
        leaves = [leaf for leaf in tree_leaves((args[0], args[2:])) if isinstance(leaf, Tensor)]  # all but the indices
    here = [leaf for leaf in leaves if not isinstance(leaf, Elsewhere)]
    # A scalar on the CPU may be an operand or an assigned value. No other CPU tensor may be mixed in or written to.
    if name not in INDEXES and not name.startswith(NUMBERS):
        strangers = bool(here)
    else:
        strangers = any(leaf.ndim for leaf in here) or (name.endswith("_") and not isinstance(leaves[0], Elsewhere))
    if mixed and strangers and name not in CROSSES:
        raise RuntimeError(f"{func}: tensors on two devices")
    if kwargs.get("device") is not None:
        goes = torch.device(kwargs["device"]) == DEVICE
        kwargs = kwargs | {"device": torch.device("cpu")}
    elif name == "copy_":
        goes = there[0]
    if goes and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: a generator of the CPU's for a tensor on a device")
    held_args, held_kwargs = tree_map(lambda leaf: leaf.held if isinstance(leaf, Elsewhere) else leaf, (args, kwargs))
    outputs = func(*held_args, **held_kwargs)
    if not goes:
        return outputs
    outputs = tree_map(lambda leaf: Elsewhere(leaf) if isinstance(leaf, Tensor) else leaf, outputs)
    return return_and_correct_aliasing(func, args, kwargs, outputs) if mixed else outputs
