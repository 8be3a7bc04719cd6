"""Arguments of an architecture, such as ``drop_path_rate``, checked before the model is built."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch

LARGEST = 10_000  # largest number and longest text; larger ones in a checkpoint are damage

# Arguments that build_model sets, that load files, or that do not build a classifier -> what to use instead.
RESERVED = {
    "num_classes": "the data's classes decide",
    "in_chans": "images have three channels",
    "img_size": "use data.image_size",
    "pretrained": "use --pretrained",
    "checkpoint_path": "use weights=FILE",
} | dict.fromkeys(
    (
        *("pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "cache_dir", "scriptable", "exportable"),
        *("no_jit", "features_only", "out_indices", "feature_cfg", "kwargs_filter", "pruned", "device", "dtype"),
    ),
    "it is not the architecture's",
)


def checked_model_args(name: str, arguments: Mapping[str, object] | None) -> dict[str, Any]:
    """Return the arguments of a timm model as plain values.

    Args:
        name: timm model.
        arguments: Numbers, booleans and strings by name, such as ``{"drop_path_rate": 0.1}``.

    Raises:
        ValueError: The model has no such argument, or it cannot be set here.
        TypeError: A value has another type.
    """
    for key in arguments or {}:
        if key in RESERVED:
            raise ValueError(f"expected arguments of {name}'s architecture in model_args, got {key}: {RESERVED[key]}")
    checked = plain_args(arguments)
    known = _parameters(name) if checked else None
    for key in checked if known is not None else ():
        if key not in (known or ()):
            nearest = difflib.get_close_matches(key, known or (), n=2)
            hint = f"model_args.{' or model_args.'.join(nearest)}" if nearest else f"one of {', '.join(known or ())}"
            raise ValueError(f"{name} has no argument {key}; try {hint}")
    return checked


def plain_args(arguments: Mapping[str, object] | None) -> dict[str, Any]:
    """Return arguments that are numbers, booleans and strings.

    Raises:
        ValueError: A value is too large or NaN.
        TypeError: A value has another type.
    """
    checked: dict[str, bool | int | float | str] = {}
    for key, value in (arguments or {}).items():
        if not isinstance(value, bool | int | float | str):
            raise TypeError(f"expected a number, true, false or text for model_args.{key}, got {value!r}")
        if (len(value) if isinstance(value, str) else abs(value)) > LARGEST or value != value:
            raise ValueError(f"expected model_args.{key} up to {LARGEST}, got {str(value)[:20]}")
        checked[str(key)] = value
    return checked


def _parameters(name: str) -> list[str] | None:
    """Return the parameters of a timm model's class; None if it passes further ones on, which timm checks itself."""
    with torch.device("meta"):  # nothing is allocated
        classes = type(timm.create_model(name)).__mro__
    found: list[str] = []
    for kind in classes:
        if kind is torch.nn.Module:
            return None
        parameters = inspect.signature(vars(kind).get("__init__", kind)).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        found += [p.name for p in parameters if p.kind in named and p.name != "self" and p.name not in RESERVED]
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return found
