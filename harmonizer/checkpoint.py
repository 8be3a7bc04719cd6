"""What evaluate.py measures: a checkpoint of train.py, or a timm model as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonizer.checkpoint_file import read_checkpoint
from harmonizer.data.convert.sources.classes import check_imagenet_order, imagenet_classes
from harmonizer.models import check_model_name, model_classes, model_image_size
from harmonizer.module import HarmonizerModule
from harmonizer.run import say

EMA = "ema_state_dict"  # where callbacks.ema keeps the averaged weights in a checkpoint
WEIGHTS = ("raw", "ema")


@dataclass(frozen=True)
class Subject:
    """A model to measure, before its data are known.

    Attributes:
        model: timm name.
        image_size: Input height and width in pixels.
        label: For tables and figures.
        checkpoint: Its checkpoint's path; None for a timm model as it is.
        pretrained: The timm model's weights are loaded.
        weights: Of a checkpoint, ``"raw"`` or ``"ema"``, the moving average.
        seed: Of the weights of an untrained timm model; None for all others.
    """

    model: str
    image_size: int
    label: str
    checkpoint: Path | None = None
    pretrained: bool = False
    weights: str = "raw"
    seed: int | None = None

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
        if self.pretrained and known == len(imagenet_classes()):
            doubt = check_imagenet_order(classes)
            if doubt is not None:
                say(f"{self.label}: {doubt}")
        return HarmonizerModule(self.model, classes, self.image_size, pretrained=self.pretrained)


def choose(
    ckpt: str | None = None,
    model: str | None = None,
    *,
    pretrained: bool = False,
    image_size: int | None = None,
    label: str | None = None,
    weights: str = "raw",
    seed: int = 0,
) -> Subject:
    """Return the model that a checkpoint or a timm name stands for.

    Args:
        ckpt: File that train.py wrote.
        model: timm name, where there is no checkpoint.
        pretrained: Load timm's weights.
        image_size: Of a timm model; None takes its own.
        label: None makes one of the model's name, its condition and seed.
        weights: Which weights of the checkpoint, ``"raw"`` or ``"ema"``.
        seed: Of the weights of a timm model that is not pretrained.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: Neither or both are given, the checkpoint is not usable, or timm has no such model.
    """
    if (ckpt is None) == (model is None):
        raise ValueError("expected either ckpt=FILE or model=NAME; see --help")
    if weights not in WEIGHTS or (weights == "ema" and ckpt is None):
        raise ValueError(f"expected weights of {' or '.join(WEIGHTS)}, and ema with ckpt=FILE only, got {weights!r}")
    label = None if label is None else str(label)  # a number, on the command line
    if ckpt is not None:
        path = Path(ckpt)
        content = read_checkpoint(path, mmap=True)
        _state(path, content, weights)
        settings = content["hyper_parameters"]
        condition = "harmonized" if settings["harmonize"] else "control"
        made = f"{settings['model']}-{condition}-seed-{settings['seed']}"
        made += "-ema" if weights == "ema" else ""
        return Subject(settings["model"], settings["image_size"], label or made, checkpoint=path, weights=weights)
    assert model is not None
    check_model_name(model)
    made = model if pretrained else f"{model}-untrained" + f"-seed-{seed}" * bool(seed)
    own = None if pretrained else seed
    return Subject(model, image_size or model_image_size(model), label or made, pretrained=pretrained, seed=own)


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
    try:
        # The weights are in the checkpoint: nothing to download.
        module = HarmonizerModule(**(settings | {"pretrained": False, "weights": None}))
        module.load_state_dict(state)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit the model that it names: {error}") from None
    module.hparams.update(pretrained=settings["pretrained"], weights=settings.get("weights"))
    return module


def _state(path: Path, content: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """Return the weights that are asked for, of a checkpoint that must be one of ours."""
    needed = {"model", "classes", "image_size", "harmonize", "seed", "pretrained"}
    settings = content["hyper_parameters"]
    if not isinstance(settings, dict) or not needed <= settings.keys():
        raise ValueError(f"{path} is not a checkpoint of train.py; expected its weights and hyper-parameters")
    key = EMA if weights == "ema" else "state_dict"
    if key not in content:
        raise ValueError(f"{path} holds no averaged weights; train with ema=0.999, or measure weights=raw")
    state: dict[str, Any] = content[key]
    return state
