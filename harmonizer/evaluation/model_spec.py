"""What evaluate.py measures: a checkpoint of train.py, or a timm model as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from harmonizer.cli.console import print_rank_zero
from harmonizer.models import backbone_shapes, check_model_name, model_classes, model_image_size
from harmonizer.models.tensors import check_weights
from harmonizer.models.weights import IN_A_FOLDER
from harmonizer.run import BEST
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.training.module import HarmonizerModule
from harmonizer.untrusted import LONGEST_TEXT, MOST_CLASSES, MOST_SIDE, plain_text, shortened

# The hyper-parameters of every checkpoint.
KINDS: dict[str, type] = {
    "model": str,
    "classes": list,
    "image_size": int,
    "harmonize": bool,
    "seed": int,
    "pretrained": bool,
}
MOST_VALUES = 1000  # of a setting that is a list
LONGEST_PATH = 4096  # characters
EMA = "ema_state_dict"  # where callbacks.ema keeps the averaged weights in a checkpoint
WEIGHTS = ("raw", "ema")


@dataclass(frozen=True)
class ModelSpec:
    """A model to measure, before its data are known.

    Attributes:
        model: timm name.
        image_size: Input height and width in pixels.
        label: For tables and figures.
        checkpoint: Its checkpoint's path; None for a timm model as it is.
        pretrained: The timm model's weights are loaded.
        weights: Of a checkpoint, ``"raw"`` or ``"ema"``, the moving average.
        seed: Of the weights of an untrained timm model; None for all others.
        model_args: Arguments of timm's own for a timm model; a checkpoint has its own.
    """

    model: str
    image_size: int
    label: str
    checkpoint: Path | None = None
    pretrained: bool = False
    weights: str = "raw"
    seed: int | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)

    def build(self, classes: Sequence[str]) -> HarmonizerModule:
        """Return the module, with its weights.

        Args:
            classes: Class names of the data.

        Raises:
            ValueError: The model does not know these classes, or ImageNet's are in another order than its own.
        """
        if self.checkpoint is not None:
            return restore(self.checkpoint, classes, weights=self.weights)
        known = model_classes(self.model)
        if self.pretrained and len(classes) != known:
            raise ValueError(
                f"{self.model} tells {known} classes apart and the data have {len(classes)}; "
                "choose data with the model's classes, or train a head for these with train.py --pretrained"
            )
        return HarmonizerModule(
            self.model, classes, self.image_size, pretrained=self.pretrained, model_args=self.model_args
        )


def resolve_model(
    ckpt: str | None = None,
    model: str | None = None,
    *,
    pretrained: bool = False,
    image_size: int | None = None,
    label: str | None = None,
    weights: str = "raw",
    seed: int = 0,
    model_args: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """Return the model that a checkpoint or a timm name stands for.

    Args:
        ckpt: File that train.py wrote, or the run folder that holds it.
        model: timm name, where there is no checkpoint.
        pretrained: Load timm's weights.
        image_size: Of a timm model; None takes its own.
        label: None makes one of the model's name, its condition and seed.
        weights: Which weights of the checkpoint, ``"raw"`` or ``"ema"``.
        seed: Of the weights of a timm model that is not pretrained.
        model_args: Of a timm model, such as ``global_pool``; see :mod:`harmonizer.models.model_args`.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: Neither or both are given, the checkpoint is not usable, or timm has no such model.
    """
    if (ckpt is None) == (model is None):
        raise ValueError("expected either ckpt=FILE or model=NAME; see --help")
    if weights not in WEIGHTS or (weights == "ema" and ckpt is None):
        raise ValueError(f"expected weights of {' or '.join(WEIGHTS)}, and ema with ckpt=FILE only, got {weights!r}")
    label = None if label is None else plain_text(str(label), "label")  # a number, on the command line
    arguments = dict(model_args or {})
    if arguments and ckpt is not None:
        raise ValueError(f"expected model_args with model=NAME only, got {arguments}; a checkpoint has its own")
    if ckpt is not None:
        path = find_checkpoint(ckpt)
        content = read_checkpoint(path, mmap=True)
        _state(path, content, weights)
        settings = content["hyper_parameters"]
        condition = "harmonized" if settings["harmonize"] else "control"
        made = f"{settings['model']}-{condition}-seed-{settings['seed']}"
        made += "-ema" if weights == "ema" else ""
        return ModelSpec(settings["model"], settings["image_size"], label or made, checkpoint=path, weights=weights)
    assert model is not None
    check_model_name(model)
    made = model if pretrained else f"{model}-untrained" + f"-seed-{seed}" * bool(seed)
    made += "".join(f"-{key}={value}" for key, value in sorted(arguments.items()))
    own = None if pretrained else seed
    size = image_size or model_image_size(model)
    return ModelSpec(model, size, label or made, pretrained=pretrained, seed=own, model_args=arguments)


def find_checkpoint(place: str | Path) -> Path:
    """Return the checkpoint that a path names: the file itself, or best.ckpt of a run folder, which is said.

    Raises:
        FileNotFoundError: The folder holds no best.ckpt.
        ValueError: It is an address.
    """
    if "://" in str(place):
        raise ValueError(f"expected a checkpoint on this machine, got {place}; download it first, then ckpt=FILE")
    path = Path(place)
    if not path.is_dir():
        return path
    if not (path / BEST).is_file():
        if (path / IN_A_FOLDER[0]).is_file():
            raise FileNotFoundError(
                f"{path} holds weights alone ({IN_A_FOLDER[0]}); ckpt=FILE takes a checkpoint of train.py; "
                f"try train.py --model NAME weights={path} to start from them"
            )
        others = sorted(str(file) for file in path.rglob("*.ckpt"))[:3]
        raise FileNotFoundError(f"no {BEST} in the folder {path}; try ckpt={' or ckpt='.join(others) or 'FILE'}")
    print_rank_zero(f"checkpoint: {path / BEST}, the best of the run in {path}")
    return path / BEST


def restore(path: Path, classes: Sequence[str] | None = None, *, weights: str = "raw") -> HarmonizerModule:
    """Rebuild a module from its checkpoint alone; only tensors and plain values are read from it.

    Args:
        path: File that train.py wrote.
        classes: Class names that it must have; None asks for none.
        weights: ``"raw"`` or ``"ema"``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, holds something else, or was trained on other classes.
    """
    content = read_checkpoint(path)
    state = _state(path, content, weights)
    settings = content["hyper_parameters"]
    if classes is not None and list(classes) != list(settings["classes"]):
        raise ValueError(
            f"{path} was trained on the classes {', '.join(settings['classes'][:4])}, ... "
            f"({len(settings['classes'])}); the data have {', '.join(classes[:4])}, ... ({len(classes)})"
        )
    check_weights(state, path)
    try:
        _check_shapes(settings, state)
        # The weights are in the checkpoint: nothing to download.
        module = HarmonizerModule(**(settings | {"pretrained": False, "weights": None}))
        for name, value in module.state_dict().items():
            if name in state and state[name].is_floating_point() != value.is_floating_point():
                raise TypeError(f"{name} is {state[name].dtype}, expected {value.dtype}")
        module.load_state_dict(state)
    except (TypeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:LONGEST_TEXT]
        raise ValueError(f"{path} does not fit the model that it names: {reason}") from None
    module.hparams.update(pretrained=settings["pretrained"], weights=settings.get("weights"))
    return module


def _state(path: Path, content: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """Return the weights that are asked for, of a checkpoint that must be one of ours."""
    settings = content["hyper_parameters"]
    if not isinstance(settings, dict) or not KINDS.keys() <= settings.keys():
        raise ValueError(f"{path} is not a checkpoint of train.py; expected its weights and hyper-parameters")
    _check_settings(path, settings)
    key = EMA if weights == "ema" else "state_dict"
    if key not in content:
        raise ValueError(f"{path} holds no averaged weights; train with ema=0.999, or measure weights=raw")
    state = content[key]
    if not isinstance(state, dict):
        raise ValueError(f"{path}: expected {key} to be tensors by name, got {type(state).__name__}")
    check_weights(state, path, finite=False)
    rows = len(settings["classes"])
    if not any(value.ndim and len(value) == rows for value in state.values()):
        raise ValueError(f"{path} names {rows} classes, and none of its weights has so many rows")
    return state


def _check_shapes(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Check that the weights are those of the model, so that it takes no more memory than they do.

    Raises:
        TypeError: One is missing or has another shape.
        ValueError: There is no such model.
    """
    model, size, rows = settings["model"], settings["image_size"], len(settings["classes"])
    shapes = backbone_shapes(model, num_classes=rows, image_size=size, model_args=settings.get("model_args"))
    for name, shape in shapes.items():
        found = state.get(f"model.backbone.{name}")
        if found is None or found.shape != shape:
            got = "none" if found is None else tuple(found.shape)
            raise TypeError(f"expected {name} of {model} to have the shape {tuple(shape)}, got {got}")


def _check_settings(path: Path, settings: Mapping[Any, Any]) -> None:
    """Check kinds and limits of a checkpoint's hyper-parameters: they are data until then.

    Raises:
        ValueError: One is of another kind or out of range; the message names it.
    """
    for name, kind in KINDS.items():
        value = settings[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ValueError(f"{path}: expected {name} to be a {kind.__name__}, got {shortened(value)}")
    for name, value in settings.items():
        plain_text(name, f"{path}: name of a setting")
        parts = value if isinstance(value, list | tuple) else [value]
        if name == "model_args" and isinstance(value, dict):  # checked_model_args looks at the names
            parts = [*value, *value.values()]
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
