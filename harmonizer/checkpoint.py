"""What evaluate.py measures: a checkpoint of train.py, or a timm model as it is."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harmonizer.models import check_model_name, model_classes, model_image_size
from harmonizer.module import HarmonizerModule


@dataclass(frozen=True)
class Subject:
    """A model to measure, before its data are known.

    Attributes:
        model: timm name.
        image_size: Input height and width in pixels.
        label: For tables and figures.
        checkpoint: Its checkpoint's path; None for a timm model as it is.
        pretrained: The timm model's weights are loaded.
    """

    model: str
    image_size: int
    label: str
    checkpoint: Path | None = None
    pretrained: bool = False

    def build(self, classes: Sequence[str]) -> HarmonizerModule:
        """Return the module, with its weights.

        Args:
            classes: Class names of the data.

        Raises:
            ValueError: The model does not know these classes.
        """
        if self.checkpoint is not None:
            return restore(self.checkpoint, classes)
        known = model_classes(self.model)
        if self.pretrained and len(classes) != known:
            raise ValueError(
                f"{self.model} tells {known} classes apart and the data have {len(classes)}; "
                "choose data with the model's classes, or train a head for these with train.py --pretrained"
            )
        return HarmonizerModule(self.model, classes, self.image_size, pretrained=self.pretrained)


def choose(
    ckpt: str | None = None,
    model: str | None = None,
    *,
    pretrained: bool = False,
    image_size: int | None = None,
    label: str | None = None,
) -> Subject:
    """Return the model that a checkpoint or a timm name stands for.

    Args:
        ckpt: File that train.py wrote.
        model: timm name, where there is no checkpoint.
        pretrained: Load timm's weights.
        image_size: Of a timm model; None takes its own.
        label: None makes one of the model's name, its condition and seed.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: Neither or both are given, the checkpoint is not usable, or timm has no such model.
    """
    if (ckpt is None) == (model is None):
        raise ValueError("expected either ckpt=FILE or model=NAME; see --help")
    if ckpt is not None:
        path = Path(ckpt)
        settings = _load(path)["hyper_parameters"]
        condition = "harmonized" if settings["harmonize"] else "control"
        made = f"{settings['model']}-{condition}-seed-{settings['seed']}"
        return Subject(settings["model"], settings["image_size"], label or made, checkpoint=path)
    assert model is not None
    check_model_name(model)
    made = model if pretrained else f"{model}-untrained"
    return Subject(model, image_size or model_image_size(model), label or made, pretrained=pretrained)


def restore(path: Path, classes: Sequence[str] | None = None) -> HarmonizerModule:
    """Rebuild a module from its checkpoint alone; only tensors and plain values are read from it.

    Args:
        path: File that train.py wrote.
        classes: Class names that it must have; None asks for none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, holds something else, or was trained on other classes.
    """
    content = _load(path)
    settings = content["hyper_parameters"]
    if classes is not None and list(classes) != list(settings["classes"]):
        raise ValueError(
            f"{path} was trained on the classes {', '.join(settings['classes'][:4])}, ... "
            f"({len(settings['classes'])}); the data have {', '.join(classes[:4])}, ... ({len(classes)})"
        )
    try:
        # The weights are in the checkpoint: nothing to download.
        module = HarmonizerModule(**(settings | {"pretrained": False}))
        module.load_state_dict(content["state_dict"])
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit the model that it names: {error}") from None
    module.hparams["pretrained"] = settings["pretrained"]
    return module


def _load(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling objects, and check that it is one of ours."""
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; train.py writes best.ckpt and last.ckpt into the run folder")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than tensors and plain values, or no checkpoint; it is not loaded"
        ) from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated or damaged ({reason}); take an earlier checkpoint") from None
    needed = {"model", "classes", "image_size", "harmonize", "seed", "pretrained"}
    settings = content.get("hyper_parameters") if isinstance(content, dict) else None
    if not isinstance(settings, dict) or not needed <= settings.keys() or "state_dict" not in content:
        raise ValueError(f"{path} is not a checkpoint of train.py; expected its weights and hyper-parameters")
    checkpoint: dict[str, Any] = content
    return checkpoint
