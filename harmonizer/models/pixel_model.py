"""timm models that take images in [0,1]: the model's own mean/std normalisation lives inside."""

import difflib
import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from harmonizer.fast import FastPath
from harmonizer.functional import input_saliency
from harmonizer.models.attention import fuse, fused_attention
from harmonizer.models.hub import cache_only_when_offline, how_to_get
from harmonizer.models.logits import Caller
from harmonizer.models.model_args import checked_model_args
from harmonizer.models.weights import loading_all_but_head, read_weights

# What timm raises for settings that a model cannot take.
UNFIT = (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError)


class PixelModel(nn.Module):
    """A classifier of pixel-space images.

    Args:
        backbone: Maps normalised images (B,3,H,W) to logits (B,K).
        mean: Per channel, in [0,1] units.
        std: Per channel, in [0,1] units.
        second_order: Training differentiates twice. Training forwards then take the fast paths of
            :class:`harmonizer.fast.FastPath`.
        recomputes: The backward pass runs parts of the forward again, with gradient checkpointing. All training
            forwards then take torch's own layers, without fused attention, so that both runs agree.
    """

    def __init__(
        self,
        backbone: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        second_order: bool = False,
        recomputes: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.second_order = second_order and not recomputes
        self.attention = fused_attention(backbone) if second_order and recomputes else []
        self.fast = None if recomputes else FastPath(backbone)
        self.mean: Tensor
        self.std: Tensor
        # Constants of the architecture, not weights: kept out of the state.
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)

    @property
    def supports_prefix(self) -> bool:
        """Whether a training forward saves work when the gradient of its first images alone is wanted."""
        fast = self.fast
        return self.second_order and fast is not None and fast.model is self.backbone and fast.supports_prefix

    def forward(self, images: Tensor, *, num_mapped: int | None = None) -> Tensor:
        """Map images (B,3,H,W) in [0,1] to logits (B,K).

        In training, ``num_mapped`` promises that only the first so many images' gradient will be differentiated, and
        that under ``create_graph`` the others' is asked for by nothing.
        """
        if num_mapped is not None and not 0 < num_mapped <= len(images):
            raise ValueError(f"expected num_mapped in [1,{len(images)}], as many as there are images, got {num_mapped}")
        if self.attention:
            fuse(self.attention, fused=not self.training)
        fast = self.fast if self.second_order and self.training else None
        twice = images.requires_grad
        with nullcontext() if fast is None else fast.training(twice=twice, num_mapped=num_mapped):
            logits: Tensor = self.backbone((images - self.mean) / self.std)
        return logits


def build_model(
    name: str,
    *,
    num_classes: int | None = None,
    pretrained: bool = False,
    weights: str | None = None,
    image_size: int | None = None,
    second_order: bool = False,
    checkpoint_gradients: bool = False,
    model_args: Mapping[str, object] | None = None,
) -> PixelModel:
    """Create a timm model with its normalisation inside.

    Args:
        name: A timm model, with or without a weights tag, for example ``resnet50`` or ``resnet50.a1_in1k``.
        num_classes: Size of the head; None keeps the model's own.
        pretrained: Load timm's published weights.
        weights: Load the weights in this file instead; see :func:`harmonizer.models.weights.read_weights`. A head for
            another number of classes is skipped, as with timm's own; all else must be in the file.
        image_size: Input height and width in pixels, for the models whose input size is fixed when they are built;
            None keeps the model's own.
        second_order: Choose attention that has second derivatives where they are needed; see :class:`PixelModel`.
        checkpoint_gradients: Compute activations again in the backward pass instead of keeping them.
        model_args: Arguments of timm's own, such as ``drop_path_rate``; see :mod:`harmonizer.models.model_args`.

    Returns:
        The model, in training mode as timm creates it.

    Raises:
        ValueError: timm has no such model, or cannot build it with these settings.
    """
    check_model_name(name)
    if (image_size is not None and image_size < 1) or (num_classes is not None and num_classes < 2):
        raise ValueError(f"expected image_size >= 1 and num_classes >= 2, got {image_size} and {num_classes}")
    config = _own_config(name)
    arguments = checked_model_args(name, model_args)
    size = _size(config, image_size)
    state = None if weights is None else read_weights(weights)
    source = None if state is None else _source(config, state)
    try:
        loading: AbstractContextManager[None] = cache_only_when_offline() if pretrained else nullcontext()
        if state is not None:
            loading = loading_all_but_head(str(weights), state, _heads(config))
        with loading:
            backbone: Any = timm.create_model(
                name,
                pretrained=pretrained or bool(source),
                pretrained_cfg_overlay=source,
                num_classes=num_classes,
                **size,
                **arguments,
            )
        if source is not None:
            backbone.pretrained_cfg["state_dict"] = None  # not a second copy for the model's life
        if checkpoint_gradients:
            backbone.set_grad_checkpointing(True)
        model = PixelModel(
            backbone, config.mean, config.std, second_order=second_order, recomputes=checkpoint_gradients
        )
        _probe(model, image_size or config.input_size[-1])
    except OSError as error:
        raise ValueError(
            f"the weights of {name} are neither cached nor to be downloaded now; {how_to_get(name)}"
        ) from error
    except UNFIT as error:
        settings = f"num_classes={num_classes}, image_size={image_size}, pretrained={pretrained}"
        settings += f", weights={weights}" * bool(weights) + ", checkpoint_gradients=true" * checkpoint_gradients
        settings += "".join(f", model_args.{key}={value}" for key, value in arguments.items())
        raise ValueError(f"{name} cannot work with {settings}: {error}") from error
    return model


def backbone_shapes(
    name: str, *, num_classes: int, image_size: int, model_args: Mapping[str, object] | None = None
) -> dict[str, torch.Size]:
    """Return the shapes of a timm model's weights and buffers by their names; nothing is allocated.

    Args:
        name: As :func:`build_model` takes it, as the other arguments.
        num_classes: Size of the head.
        image_size: Input height and width in pixels.
        model_args: Arguments of timm's own.

    Raises:
        ValueError: timm has no such model, or cannot build it with these settings.
    """
    check_model_name(name)
    try:
        arguments, size = checked_model_args(name, model_args), _size(_own_config(name), image_size)
        with torch.device("meta"):
            backbone = timm.create_model(name, num_classes=num_classes, **size, **arguments)
    except UNFIT as error:
        raise ValueError(f"{name} cannot be built for images of {image_size} pixels: {error}") from error
    return {key: value.shape for key, value in backbone.state_dict().items()}


def _size(config: PretrainedCfg, image_size: int | None) -> dict[str, Any]:
    """Return the input size for models that are built for one; the others follow their input."""
    return {"img_size": image_size} if image_size is not None and config.fixed_input_size else {}


def _heads(config: PretrainedCfg) -> list[str]:
    """Return the names of the classifier's layers; models for distillation have two."""
    return [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())


def _source(config: PretrainedCfg, state: dict[str, Tensor]) -> dict[str, Any]:
    """Return what tells timm to take these weights, with the number of classes of the head among them."""
    sizes = [len(state[f"{head}.weight"]) for head in _heads(config) if f"{head}.weight" in state]
    return {"state_dict": state, "num_classes": sizes[0] if sizes else 0, "label_offset": 0}


def _own_config(name: str) -> PretrainedCfg:
    """Return what timm says of a model's input and head."""
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    return config


def _probe(model: PixelModel, size: int) -> None:
    """Run one black image through the model: what it cannot take shows here, not in the middle of a run."""
    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, size, size))
    model.train()
    if logits.ndim != 2:
        raise ValueError(f"expected logits (B,K), got {tuple(logits.shape)}")


def check_model_name(name: str | None) -> None:
    """Raise a ValueError that suggests the nearest names when timm has no model of this name."""
    if not name:
        raise ValueError("expected model=NAME, got none; timm.list_models() lists the names")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        nearest = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else "timm.list_models() lists them"
        raise ValueError(f"timm has no model {name!r}; {hint}")
    if tag and name not in timm.list_pretrained(f"{architecture}.*"):
        tags = ", ".join(timm.list_pretrained(f"{architecture}.*")) or "none"
        raise ValueError(f"timm has no weights {name!r}; it has {tags}")


def model_image_size(name: str) -> int:
    """Return the input height and width, in pixels, that a timm model's weights were made for."""
    check_model_name(name)
    return int(_own_config(name).input_size[-1])


def model_classes(name: str) -> int:
    """Return how many classes a timm model's own head tells apart."""
    check_model_name(name)
    return int(_own_config(name).num_classes)


def evaluation_geometry(name: str) -> tuple[float, str]:
    """Return a timm model's own ``crop_pct`` and interpolation (bilinear or bicubic)."""
    check_model_name(name)
    config = _own_config(name)
    return float(config.crop_pct), "bilinear" if config.interpolation == "bilinear" else "bicubic"


def weights_digest(model: nn.Module) -> str:
    """Return a sha256 over the names, types and bytes of a model's state, to name it in results."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def evaluation_saliency(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the saliency that feature alignment compares: max over channels of |d true logit / d image|.

    In evaluation mode, also under ``no_grad`` and ``inference_mode``; the model's mode is restored and no parameter's
    gradient is touched.

    Args:
        model: Maps images (B,3,H,W) in [0,1] to logits (B,K), as :func:`harmonizer.attacks.minimal_radius` takes it.
        images: (B,3,H,W).
        labels: (B,) int64.

    Returns:
        (B,H,W), >= 0.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            images = images.detach().clone().requires_grad_()
            return input_saliency(Caller(model)(images), images, labels.clone(), reduction="absmax")
    finally:
        for module, training in modes:
            module.training = training
