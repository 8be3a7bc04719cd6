"""Models in Python: by name (``harmonizer.load``) or from an ``nn.Module`` (``harmonizer.wrap``)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harmonizer.evaluation.images import probe_images
from harmonizer.evaluation.model_spec import resolve_model
from harmonizer.models import PixelModel, build_model, resolve
from harmonizer.models.architecture import AS_IT_IS
from harmonizer.models.clip_zoo import with_texts
from harmonizer.models.linear_probe import fit_probe
from harmonizer.models.trial import try_model, warn_of_normalisation


def load(
    name: str | Path,
    *,
    pretrained: bool = False,
    num_classes: int | None = None,
    weights: str | None = None,
    ema: bool = False,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    model_args: Mapping[str, Any] | None = None,
    code: str | None = None,
    seed: int = 0,
    prompts: str | Sequence[str] | None = None,
    class_names: str | Sequence[str] | None = None,
    probe: Any = None,  # noqa: ANN401 - see below
) -> PixelModel:
    """Return a model that takes images in [0,1], with its normalisation inside, in evaluation mode.

    Args:
        name: timm model (``"resnet50.a1_in1k"``), ``"torchvision:resnet18.IMAGENET1K_V1"``, ``"hf-hub:ORG/NAME"``,
            ``"clip:ViT-B-32.openai"``, an exported or timm folder, a checkpoint or run folder of train.py,
            ``"FILE.py:FUNCTION"`` or ``"MODULE:FUNCTION"``.
        pretrained: Load the published weights of a timm or torchvision model; otherwise weights are random.
        num_classes: Size of the head; None keeps the model's own. A checkpoint sets its own.
        weights: File of weights; a head for another number of classes is skipped.
        ema: Load the moving average of a checkpoint's weights.
        image_size: Input height and width in pixels; None takes the model's own.
        mean: Mean per channel, in [0,1] units; None takes the model's own.
        std: Standard deviation per channel; None takes the model's own.
        model_args: Arguments of the architecture.
        code: ``"FILE.py:FUNCTION"`` for a checkpoint of your own model.
        seed: Seed of random weights.
        prompts: Prompts of ``clip:NAME``: a text with ``{}`` for the class name, several, a file, or ``"openai"``.
        class_names: Words of ``clip:NAME`` for the classes in the prompts, in the order of the labels.
        probe: Fit the last linear layer to these images, :mod:`harmonizer.models.linear_probe`: ``"demo"`` or a folder
            of shards, of which the training split is taken, or what :func:`harmonizer.evaluate` takes as data.

    Raises:
        FileNotFoundError: The file or folder does not exist.
        ValueError: The model is unknown or cannot be built with these settings.

    >>> load("torchvision:resnet18", num_classes=10)(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    given: dict[str, Any] = {"pretrained": pretrained, "weights": weights, "image_size": image_size}
    given["model_args"] = model_args
    text: dict[str, Any] = {"prompts": prompts, "class_names": class_names}
    ckpt, typed = (None, str(name)) if code is None else (str(name), code)
    spec = resolve_model(ckpt, typed, ema=ema, mean=mean, std=std, probe=probe is not None, **text, **given)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if spec.checkpoint is not None:
            module = spec.restored()
            model = module.model.eval()
            model.image_size = spec.image_size
            if model.architecture is not None:
                model.architecture = replace(model.architecture, classes=tuple(module.hparams["classes"]))
            return model
        source = resolve(spec.source)
        if source.kind == "clip" and source.weights is None:
            source = with_texts(source, **text)
        if probe is None:
            return build_model(source, num_classes=num_classes, **given).eval()
        batches, count, classes, digests = probe_images(probe, source, spec.image_size, spec.probe)
        if classes is not None and num_classes not in (None, count):
            raise ValueError(f"expected num_classes={count}, as the probe's images have, got {num_classes}")
        model = build_model(source, num_classes=num_classes or count, **given).eval()
        fit_probe(model, batches, probe_data=digests)
        assert model.architecture is not None
        model.architecture = replace(model.architecture, classes=classes)
        return model


def wrap(
    model: nn.Module,
    mean: Sequence[float] = AS_IT_IS[0],
    std: Sequence[float] = AS_IT_IS[1],
    size: int | None = None,
) -> PixelModel:
    """Wrap your own model as one that takes images in [0,1], in evaluation mode.

    Args:
        model: Maps normalised images (B,3,H,W) to logits (B,K), or to an object with ``logits``.
        mean: Mean per channel, in [0,1] units; by default images are not normalised.
        std: Standard deviation per channel.
        size: Input height and width in pixels. If set, the model is run once, and images from files get this size.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: It does not take such images, or mean and std are not three numbers each.

    >>> wrap(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), mean=[0.5] * 3, std=[0.5] * 3, size=4).image_size
    4
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    name = type(model).__name__
    if not all(len(values) == 3 for values in (mean, std)) or not all(value > 0 for value in std):
        raise ValueError(f"expected mean and std of three numbers each, std positive, got {mean} and {std}")
    wrapped = PixelModel(model, tuple(mean), tuple(std)).to(device_of(model))
    wrapped.image_size = size
    if (tuple(mean), tuple(std)) != AS_IT_IS:
        warn_of_normalisation(model, name)
    if size is not None:
        try_model(wrapped, name, size, own=True)
    return wrapped.eval()


def device_of(model: nn.Module) -> torch.device:
    """Return a model's device."""
    return next((value.device for value in (*model.parameters(), *model.buffers())), torch.device("cpu"))
