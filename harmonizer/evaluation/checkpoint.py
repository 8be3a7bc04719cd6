"""Rebuild a model from a checkpoint of train.py, whose contents are data and checked before use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from harmonizer.cli.console import print_rank_zero
from harmonizer.models import Architecture, backbone_shapes, resolve
from harmonizer.models.factories import is_code
from harmonizer.models.head_classes import head_classes
from harmonizer.models.sources import resolve_by_name
from harmonizer.models.tensors import check_weights
from harmonizer.models.weights import IN_A_FOLDER
from harmonizer.run import BEST
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.training.module import HarmonizerModule
from harmonizer.untrusted import LONGEST_TEXT, MOST_CLASSES, MOST_SIDE, plain_text, shortened

# Hyper-parameters of every checkpoint.
KINDS: dict[str, type] = {
    "model": str,
    "classes": list,
    "image_size": int,
    "harmonize": bool,
    "seed": int,
    "pretrained": bool,
}
MOST_VALUES = 1000  # longest list in a setting
LONGEST_PATH = 4096  # characters
EMA = "ema_state_dict"  # key of the averaged weights that callbacks.ema saves


def find_checkpoint(place: str | Path) -> Path:
    """Return the path of a checkpoint: the file itself, or best.ckpt of a run folder, which is printed.

    Raises:
        FileNotFoundError: The folder has no best.ckpt.
        ValueError: The path is a URL.
    """
    if "://" in str(place):
        raise ValueError(f"expected a local checkpoint, got {place}; download it first, then ckpt=FILE")
    path = Path(place)
    if not path.is_dir():
        return path
    if not (path / BEST).is_file():
        if (path / IN_A_FOLDER[0]).is_file():
            raise FileNotFoundError(
                f"expected a checkpoint of train.py in {path}, got weights only ({IN_A_FOLDER[0]}); "
                f"try train.py --model NAME weights={path} to start from them"
            )
        others = sorted(str(file) for file in path.rglob("*.ckpt"))[:3]
        raise FileNotFoundError(f"no {BEST} in the folder {path}; try ckpt={' or ckpt='.join(others) or 'FILE'}")
    print_rank_zero(f"checkpoint: {path / BEST}, the best of this run")
    return path / BEST


def restore(
    path: Path,
    classes: Sequence[str] | None = None,
    *,
    ema: bool = False,
    model: str | None = None,
    trust: bool = False,
) -> HarmonizerModule:
    """Rebuild a module from its checkpoint, of which only tensors and plain values are read.

    Args:
        path: Checkpoint of train.py.
        classes: Class names that it must have; None accepts any.
        ema: Load the moving average of the weights.
        model: Code of the user's own model, named by the user.
        trust: Run the code that the checkpoint names.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is damaged, holds something else, names code, or was trained on other classes.
    """
    content = read_checkpoint(path)
    state = state_of(path, content, ema=ema)
    settings = content["hyper_parameters"]
    name = code_of(path, settings["model"], model, trust=trust)
    if classes is not None and list(classes) != list(settings["classes"]):
        raise ValueError(other_classes(path, "was trained on", settings["classes"], classes))
    check_weights(state, path)
    try:
        _check_shapes(architecture_of(path, settings, name), settings, state)
        # The checkpoint holds the weights: nothing is downloaded.
        module = HarmonizerModule(**(settings | {"model": name, "pretrained": False, "weights": None}))
        for key, value in module.state_dict().items():
            if key in state and state[key].is_floating_point() != value.is_floating_point():
                raise TypeError(f"{key} is {state[key].dtype}, expected {value.dtype}")
        module.load_state_dict(state)
    except (TypeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:LONGEST_TEXT]
        raise ValueError(f"{path} does not fit the model that it names: {reason}") from None
    module.hparams.update(pretrained=settings["pretrained"], weights=settings.get("weights"))
    return module


def state_of(path: Path, content: Mapping[str, Any], *, ema: bool) -> dict[str, Any]:
    """Check that a checkpoint is ours, and return its weights or their moving average."""
    settings = content["hyper_parameters"]
    if not isinstance(settings, dict) or not KINDS.keys() <= settings.keys():
        raise ValueError(f"expected a checkpoint of train.py, got {path}, which lacks its hyper-parameters")
    _check_settings(path, settings)
    key = EMA if ema else "state_dict"
    if key not in content:
        raise ValueError(f"{path} holds no averaged weights; train with ema=0.999, or measure it without ema=true")
    state = content[key]
    if not isinstance(state, dict):
        raise ValueError(f"{path}: expected {key} to be tensors by name, got {type(state).__name__}")
    check_weights(state, path, finite=False)
    rows = len(settings["classes"])
    if not any(value.ndim and len(value) == rows for value in state.values()):
        raise ValueError(f"{path}: expected weights with one row for each of its {rows} classes, got none")
    return state


def _check_shapes(source: Architecture, settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Check that the weights have the model's shapes, so that the model takes no more memory than they do."""
    size, rows = settings["image_size"], len(settings["classes"])
    shapes = backbone_shapes(source, num_classes=rows, image_size=size, model_args=settings.get("model_args"))
    for name, shape in (shapes or {}).items():
        found = state.get(f"model.backbone.{name}")
        if found is None or found.shape != shape:
            got = "none" if found is None else tuple(found.shape)
            raise TypeError(f"expected {name} of {source.name} to have the shape {tuple(shape)}, got {got}")


def _check_settings(path: Path, settings: Mapping[Any, Any]) -> None:
    """Check types and limits of a checkpoint's hyper-parameters."""
    for name, kind in KINDS.items():
        value = settings[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"{path}: expected {name} to be of type {kind.__name__}, got {shortened(value)}")
    for name, value in settings.items():
        plain_text(name, f"{path}: name of a setting")
        parts = value if isinstance(value, list | tuple) else [value]
        if name == "architecture" and isinstance(value, dict):  # Architecture.of checks the names
            parts = [part for each in value.values() for part in _parts(each)]
        if name == "model_args" and isinstance(value, dict):  # checked_model_args checks the names
            parts = _parts(value)
        if len(parts) > (MOST_CLASSES if name == "classes" else MOST_VALUES):
            raise ValueError(f"{path}: {name} has {len(parts)} values")
        for part in parts:
            if isinstance(part, str):
                plain_text(part or "-", f"{path}: {name}", most=LONGEST_PATH if name == "weights" else LONGEST_TEXT)
            elif (part is not None and not isinstance(part, int | float)) or name == "classes":
                raise ValueError(f"{path}: expected plain values for {name}, got {shortened(part)}")
    if not 0 < settings["image_size"] <= MOST_SIDE or abs(settings["seed"]) >= 2**64:
        size, seed = (shortened(settings[name]) for name in ("image_size", "seed"))
        raise ValueError(f"{path}: expected an image_size from 1 to {MOST_SIDE} and a seed, got {size} and {seed}")


def _parts(value: Any) -> list[Any]:  # noqa: ANN401 - any plain value
    """Return the values in a list, or the names and values of a dictionary."""
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, list | tuple) else [value]


def code_of(path: Path, name: str, given: str | None, *, trust: bool) -> str:
    """Return the name of a checkpoint's model; code only runs if the user has named or trusted it.

    Raises:
        ValueError: The checkpoint names code that the user has not named, or another model than the user.
    """
    if given is not None and not is_code(name) and given != name:
        raise ValueError(f"expected either ckpt=FILE or model=NAME: {path} is of {name}, not of {given}")
    if is_code(name) and given is None and not trust:
        raise ValueError(
            f"{path} was trained on {name}, which is code and is not run automatically; name it again with "
            f"model={name}, or add trust=true"
        )
    return given or name


def architecture_of(path: Path, settings: Mapping[str, Any], name: str) -> Architecture:
    """Return the architecture of a checkpoint's model: as the checkpoint describes it, else by name.

    Raises:
        ValueError: The model is unknown, or the description is damaged.
    """
    if is_code(name):
        return resolve(name)
    kept = settings.get("architecture")
    return resolve_by_name(name) if kept is None else Architecture.of(kept, f"{path}: architecture")


def check_own_classes(name: object, architecture: Architecture, classes: Sequence[str]) -> None:
    """Check that the data's classes are those of a model's own head, as far as these are known.

    Args:
        name: Name of the model.
        architecture: Architecture whose class names, or whose folder of weights, may name the classes of the head.
        classes: Class names of the data.

    Raises:
        ValueError: The model has other classes, or its folder lists the same classes in another order. Other names in a
            folder pass, because models of a hub have names of their own.
    """
    if architecture.classes is not None and list(classes) != list(architecture.classes):
        raise ValueError(other_classes(name, "returns", architecture.classes, classes))
    names = None if architecture.weights is None else head_classes(architecture.weights)
    if names is not None and names != list(classes) and sorted(names) == sorted(classes):
        raise ValueError(f"{other_classes(name, 'has', names, classes)}, in another order")


def other_classes(name: object, verb: str, own: Sequence[str], classes: Sequence[str]) -> str:
    """Return the message for data with other classes than a model's."""
    advice = "; for images without shards, try data.classes=FILE with the model's, one name per line"
    return (
        f"{name} {verb} the classes {', '.join(own[:4])}, ... ({len(own)}); "
        f"the data have {', '.join(classes[:4])}, ... ({len(classes)})" + advice * (set(classes) <= set(own))
    )
