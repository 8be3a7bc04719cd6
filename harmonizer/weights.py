"""Weights in a file: read without unpickling objects, and named as a timm backbone names them."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

HOLDERS = ("state_dict", "model", "model_state_dict")  # where other programs' checkpoints keep their weights
PREFIXES = ("module.", "_orig_mod.", "model.backbone.", "backbone.")  # DDP, torch.compile, a checkpoint of ours


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a timm model from a file.

    Args:
        path: ``.safetensors`` (preferred), or a file of ``torch.save``: weights alone or a checkpoint that holds them,
            those of train.py included. The second kind is read as tensors and plain values only.

    Returns:
        Weights by the backbone's own names, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; weights=FILE takes .safetensors or .pth")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError:
        raise ValueError(f"{path} holds more than tensors and plain values, or no weights; it is not loaded") from None
    except (SafetensorError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated or damaged ({reason}); it is not loaded") from None
    for holder in HOLDERS:
        if isinstance(content, dict) and isinstance(content.get(holder), dict):
            content = content[holder]
            break
    weights = {_plain(name): value for name, value in content.items()} if isinstance(content, dict) else {}
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} holds no weights; expected tensors by their names in a timm model")
    return weights


def _plain(name: str) -> str:
    """Remove what wrappers have put before a weight's name."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
