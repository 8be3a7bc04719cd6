"""Build a model by name, with its normalisation inside, and run it once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harmonizer.models import clip_zoo, factories, timm_zoo, torchvision_zoo
from harmonizer.models.architecture import AS_IT_IS, Architecture
from harmonizer.models.pixel_model import PixelModel
from harmonizer.models.sources import resolve
from harmonizer.models.trial import try_model, warn_of_normalisation
from harmonizer.models.weights import load_all_but_head, read_weights

BROKEN = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError)


def build_model(
    name: str | Architecture,
    *,
    num_classes: int | None = None,
    pretrained: bool = False,
    weights: str | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    second_order: bool = False,
    checkpoint_gradients: bool = False,
    model_args: Mapping[str, object] | None = None,
) -> PixelModel:
    """Build a model with its normalisation inside.

    Args:
        name: See :mod:`harmonizer.models.sources`.
        num_classes: Size of the head; None keeps the model's own.
        pretrained: Load the published weights of a timm or torchvision model.
        weights: File of weights to load instead; see :func:`harmonizer.models.weights.read_weights`. A head for another
            number of classes is skipped; everything else must be in the file.
        image_size: Input height and width in pixels; None takes the model's own.
        mean: Mean per channel, in [0,1] units; None takes the model's own.
        std: Standard deviation per channel; None takes the model's own.
        second_order: Prepare the model for second derivatives; see :class:`PixelModel`.
        checkpoint_gradients: Recompute activations in the backward pass instead of storing them.
        model_args: Arguments of the architecture, such as ``drop_path_rate``; see :mod:`harmonizer.models.model_args`.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: The model is unknown or cannot be built with these settings.
    """
    if (image_size is not None and image_size < 1) or (num_classes is not None and num_classes < 2):
        raise ValueError(f"expected image_size >= 1 and num_classes >= 2, got {image_size} and {num_classes}")
    given = resolve(name).fed(mean, std)
    architecture = replace(given, model_args=dict(given.model_args) | dict(model_args or {}))
    state = _state(architecture, weights, pretrained)
    size = image_size or architecture.image_size
    try:
        fixed = size if architecture.weights is not None else image_size  # a folder's weights fit its own size
        backbone = _build(architecture, state, num_classes, fixed, pretrained)
        if checkpoint_gradients:
            switch: Any = getattr(backbone, "set_grad_checkpointing", None)
            if switch is None:
                raise ValueError("it lacks timm's method set_grad_checkpointing")
            switch(True)
        if architecture.kind == "factory" and (architecture.mean, architecture.std) != AS_IT_IS:
            warn_of_normalisation(backbone, architecture.name)
        model = PixelModel(
            backbone, architecture.mean, architecture.std, second_order=second_order, recomputes=checkpoint_gradients
        )
        try_model(model, architecture.name, size, num_classes, own=architecture.kind == "factory")
    except BROKEN as error:
        if architecture.name in str(error) or "model_args." in str(error):  # the message is complete
            raise
        settings = f"num_classes={num_classes}, image_size={image_size}, pretrained={pretrained}"
        settings += f", weights={weights}" * bool(weights) + ", checkpoint_gradients=true" * checkpoint_gradients
        settings += "".join(f", model_args.{key}={value}" for key, value in architecture.model_args.items())
        raise ValueError(f"{architecture.shown} cannot work with {settings}: {error}") from error
    model.architecture, model.image_size = architecture, size
    return model


def backbone_shapes(
    name: str | Architecture, *, num_classes: int, image_size: int, model_args: Mapping[str, object] | None = None
) -> dict[str, torch.Size] | None:
    """Return the shapes of the weights and buffers that :func:`build_model` would build, without allocating them.

    Returns:
        Shapes by name; None for the user's own code, which may not run on meta tensors.

    Raises:
        ValueError: The model is unknown or cannot be built with these settings.
    """
    given = resolve(name)
    if given.kind == "factory":
        return None
    architecture = replace(given, model_args=dict(given.model_args) | dict(model_args or {}))
    try:
        with torch.device("meta"):
            backbone = _build(architecture, None, num_classes, image_size, pretrained=False)
    except BROKEN as error:
        raise ValueError(f"{given.shown} cannot be built for images of {image_size} pixels: {error}") from error
    return {key: value.shape for key, value in backbone.state_dict().items()}


def _state(architecture: Architecture, weights: str | None, pretrained: bool) -> tuple[str, dict[str, Tensor]] | None:
    """Return the origin of the weights and the weights; None if timm loads them or if there are none."""
    weights = architecture.weights if weights is None else weights
    if weights is not None:
        return weights, read_weights(weights)
    if architecture.kind == "torchvision" and (pretrained or architecture.tag):
        tag = architecture.tag or "DEFAULT"
        return f"torchvision, {tag}", torchvision_zoo.published(architecture.name, tag)
    if pretrained and architecture.kind == "clip" and not architecture.tag:
        resolve(f"clip:{architecture.name}.pretrained")  # raises an error that lists the tags
    if pretrained and architecture.kind == "factory":
        raise ValueError(f"{architecture.name} has no published weights to load with --pretrained; try weights=FILE")
    return None


def _build(
    architecture: Architecture,
    state: tuple[str, dict[str, Tensor]] | None,
    num_classes: int | None,
    image_size: int | None,
    pretrained: bool,
) -> nn.Module:
    """Return the network, with its weights if there are any."""
    if architecture.kind == "timm":
        return timm_zoo.build(architecture, num_classes, image_size, state, pretrained=pretrained)
    if architecture.kind == "clip":
        return clip_zoo.build(architecture, num_classes, image_size, state)
    if architecture.kind == "torchvision":
        model = torchvision_zoo.build(architecture, num_classes, image_size)
    else:
        model = factories.build(architecture, num_classes)
    if state is not None:
        load_all_but_head(model, *state)
    return model
