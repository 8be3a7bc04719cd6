"""torchvision's classifiers: ``torchvision:resnet18`` with random weights, ``torchvision:resnet18.IMAGENET1K_V1``."""

from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models

from harmonizer.models.architecture import Architecture, nearest_names
from harmonizer.models.hub import is_reachable
from harmonizer.models.model_args import plain_args

SIZED = {"vit_": "image_size", "maxvit_": "input_size"}  # models that fix their input size at construction
INITIALISED = ("googlenet", "inception_v3")  # models that warn unless init_weights is set


def resolve(name: str) -> Architecture:
    """Return the architecture of a torchvision name, with the image preparation of its weights.

    Raises:
        ValueError: torchvision has no such classifier or weights; the message suggests the nearest names.

    >>> resolve("resnet18").crop_ratio, resolve("resnet18.IMAGENET1K_V1").tag
    (0.875, 'IMAGENET1K_V1')
    """
    model, _, tag = name.partition(".")
    known = list_models(module=torchvision.models)
    if model not in known:
        raise ValueError(f"torchvision has no classifier {model!r}{nearest_names(model, known, 'torchvision:')}")
    weights = get_model_weights(model)
    if tag and tag not in weights.__members__:
        raise ValueError(f"torchvision has no weights {name!r}; it has {', '.join(weights.__members__)}")
    chosen: Any = weights[tag] if tag else weights["DEFAULT"]
    images = chosen.transforms()
    return Architecture(
        "torchvision",
        model,
        mean=tuple(images.mean),
        std=tuple(images.std),
        size=images.crop_size[0],
        crop_ratio=min(images.crop_size[0] / images.resize_size[0], 1.0),
        interpolation="bicubic" if images.interpolation.value == "bicubic" else "bilinear",
        num_classes=len(chosen.meta["categories"]),
        tag=tag or None,
    )


def build(architecture: Architecture, num_classes: int | None, image_size: int | None) -> nn.Module:
    """Return the torchvision model with random weights."""
    name = architecture.name
    resolve(name)
    arguments: dict[str, Any] = plain_args(architecture.model_args)
    if count := num_classes or architecture.num_classes:
        arguments["num_classes"] = count
    for beginning, argument in SIZED.items():
        if image_size is not None and name.startswith(beginning):
            arguments[argument] = (image_size, image_size) if argument == "input_size" else image_size
    if name in INITIALISED:
        arguments.setdefault("init_weights", True)
    try:
        model: nn.Module = get_model(name, weights=None, **arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"torchvision:{name} cannot be built with {arguments}: {error}") from error
    return model


def published(name: str, tag: str) -> dict[str, Tensor]:
    """Return published weights; download them if they are not cached.

    Raises:
        ValueError: They are not cached and cannot be downloaded.
    """
    weights: Any = get_model_weights(name)[tag]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    try:
        if not cached.is_file() and not is_reachable(weights.url):
            raise OSError("no network")
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except OSError as error:
        raise ValueError(
            f"the weights torchvision:{name}.{weights.name} are not cached and cannot be downloaded; download "
            f"{weights.url} on a machine with a network and try weights=FILE, or set TORCH_HOME to a shared folder"
        ) from error
