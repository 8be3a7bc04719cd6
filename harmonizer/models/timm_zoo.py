"""timm models: resolve their names and build them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import Tensor, nn

from harmonizer.data.transforms import CROP_MODES, INTERPOLATIONS
from harmonizer.models.architecture import Architecture, nearest_names
from harmonizer.models.hub import cache_only_when_offline
from harmonizer.models.model_args import checked_model_args
from harmonizer.models.weights import loading_all_but_head


def is_known(name: str) -> bool:
    """Return whether timm has an architecture of this name."""
    return bool(timm.is_model(name.partition(".")[0]))


def resolve(name: str) -> Architecture:
    """Return the architecture of a timm name.

    Raises:
        ValueError: timm has no such model or weights; the message suggests the nearest names.
    """
    _check_name(name)
    config = _own_config(name)
    return Architecture(
        "timm",
        name,
        mean=config.mean,
        std=config.std,
        size=int(config.input_size[-1]),
        crop_ratio=float(config.crop_pct),
        interpolation=config.interpolation if config.interpolation in INTERPOLATIONS else "bicubic",
        crop_mode=config.crop_mode if config.crop_mode in CROP_MODES else "center",
        num_classes=int(config.num_classes),
    )


def _check_name(name: str) -> None:
    """Raise a ValueError that suggests the nearest names if timm has no such model or weights."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = nearest_names(architecture, timm.list_models()) or "; timm.list_models() lists them"
        raise ValueError(f"timm has no model {name!r}{hint}")
    if tag and name not in timm.list_pretrained(f"{architecture}.*"):
        tags = ", ".join(timm.list_pretrained(f"{architecture}.*")) or "none"
        raise ValueError(f"timm has no weights {name!r}; it has {tags}")


def build(
    architecture: Architecture,
    num_classes: int | None,
    image_size: int | None,
    state: tuple[str, Mapping[str, Tensor]] | None,
    *,
    pretrained: bool,
) -> nn.Module:
    """Return the timm model.

    Args:
        architecture: Name, with or without a weights tag, and arguments.
        num_classes: Size of the head; None keeps the model's own.
        image_size: Input size in pixels, for models that fix it at construction.
        state: File name and weights, of which all but the head are loaded.
        pretrained: Load timm's published weights, unless there is a state.

    Raises:
        ValueError: The weights do not fit, or are not cached and cannot be downloaded.
    """
    name = architecture.name
    _check_name(name)
    config = _own_config(name)
    arguments = checked_model_args(name, architecture.model_args)
    if num_classes is None and architecture.weights:
        num_classes = architecture.num_classes
    # Only models with a fixed input size take this argument.
    size: dict[str, Any] = {"img_size": image_size} if image_size is not None and config.fixed_input_size else {}
    source: dict[str, Any] | None = None  # makes timm load these weights, with the size of their head
    loading: AbstractContextManager[None] = cache_only_when_offline() if pretrained else nullcontext()
    if state is not None:
        heads = [config.classifier] if isinstance(config.classifier, str) else list(config.classifier or ())
        weights = state[1]  # distilled models have two heads
        sizes = [len(weights[f"{head}.weight"]) for head in heads if f"{head}.weight" in weights]
        source = {"state_dict": weights, "num_classes": sizes[0] if sizes else 0, "label_offset": 0}
        loading = loading_all_but_head(*state, heads)
    try:
        with loading:
            model: Any = timm.create_model(
                name,
                pretrained=pretrained or bool(source),
                pretrained_cfg_overlay=source,
                num_classes=num_classes,
                **size,
                **arguments,
            )
    except OSError as error:
        raise ValueError(
            f"the weights of {name} are not cached and cannot be downloaded; on a machine with a network, run "
            f"""python -c "import timm; timm.create_model('{name}', pretrained=True)" with HF_HOME in a folder that """
            "both machines see, then set the same HF_HOME here; or try weights=FILE"
        ) from error
    if source is not None:
        model.pretrained_cfg["state_dict"] = None  # frees the second copy
    found: nn.Module = model
    return found


def _own_config(name: str) -> PretrainedCfg:
    """Return timm's configuration of a model's input and head."""
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    return config
