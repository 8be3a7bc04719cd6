"""What evaluate.py measures: a checkpoint of train.py or a model by its name, its head made for the data if asked."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from harmonizer.cli.console import print_rank_zero
from harmonizer.data.datamodule import ShardData
from harmonizer.evaluation.checkpoint import (
    architecture_of,
    check_own_classes,
    code_of,
    find_checkpoint,
    restore,
    state_of,
)
from harmonizer.models import Architecture, resolve
from harmonizer.models.architecture import PROBE, ZERO_SHOT
from harmonizer.models.clip_zoo import with_texts
from harmonizer.models.factories import is_code
from harmonizer.models.linear_probe import fit_probe
from harmonizer.models.weights import load_all_but_head, read_weights, with_head
from harmonizer.results.families import condition
from harmonizer.run import BEST, model_label
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.training.module import HarmonizerModule
from harmonizer.untrusted import plain_text

MOST_PROBE_IMAGES = 50_000  # that a probe is fitted to, where nothing else is said


@dataclass(frozen=True)
class ModelSpec:
    """A model to measure, before its data are known."""

    model: str  # its name; see `sources`
    image_size: int  # input height and width in pixels
    label: str  # for tables and figures
    architecture: Architecture | None = None  # what the name stands for; None looks it up
    checkpoint: Path | None = None  # path of its checkpoint; None for other models
    pretrained: bool = False  # as the others that are not named here, a setting of `load`
    weights: str | None = None
    ema: bool = False
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    seed: int | None = None  # seed of random weights; None for all others
    model_args: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False  # run code that the checkpoint names
    prompts: str | Sequence[str] | None = None
    class_names: str | Sequence[str] | None = None
    # images of the training split that the last linear layer is fitted to, at most; 0 keeps the model's own
    probe: int = 0

    @property
    def source(self) -> str | Architecture:
        """The architecture where it is known, or the name."""
        return self.architecture or self.model

    @property
    def origin(self) -> str:
        """Where the weights come from, in words."""
        if self.checkpoint or self.weights:
            return f"{self.checkpoint or ''}{' with ' * bool(self.checkpoint and self.weights)}{self.weights or ''}"
        if self.architecture is not None and self.architecture.kind == "factory":
            return "as the function returns it"
        return "published weights" if self.seed is None else "random weights"

    def restored(self, classes: Sequence[str] | None = None) -> HarmonizerModule:
        """Return the module of the checkpoint, which must have these classes; None asks for none."""
        assert self.checkpoint is not None
        module = restore(self.checkpoint, classes, ema=self.ema, model=self.model, trust=self.trust)
        if self.weights is not None:
            load_all_but_head(module.model.backbone, self.weights, read_weights(self.weights))
        return module

    def head(self, data: ShardData) -> dict[str, Any]:
        """Return what summary.json says of a head that is made for the data; nothing of a model's own."""
        architecture = resolve(self.source)
        if self.probe:
            images = min(self.probe, sum(found.samples for _, found in data.training()))
            return {"head": PROBE, "probe_images": images, "probe_data": sorted(data.digests().values())}
        if architecture.kind == "clip" and architecture.weights is None:
            return {"head": ZERO_SHOT, **self._with_texts(architecture, data.classes).head_details}
        return {}

    def build(
        self, classes: Sequence[str], data: ShardData | None = None, device: torch.device | None = None
    ) -> HarmonizerModule:
        """Return the module, with its weights.

        Args:
            classes: Class names of the data.
            data: Whose training split a probe is fitted to; images of another size than the model's are interpolated.
            device: Where a probe is fitted.

        Raises:
            ValueError: The model does not know these classes, or ImageNet's are in another order than its own.
        """
        if self.checkpoint is not None:
            return self._interpolating(self.restored(classes), data)
        architecture = resolve(self.source)
        if architecture.kind == "clip" and architecture.weights is None:
            architecture = self._with_texts(architecture, classes)
        elif not self.probe:
            self._check_classes(architecture, classes)
        with nullcontext() if self.probe else with_head():
            module = HarmonizerModule(
                self.model,
                classes,
                self.image_size,
                pretrained=self.pretrained,
                weights=self.weights,
                input_mean=self.mean,
                input_std=self.std,
                model_args=self.model_args,
                architecture=architecture if architecture.kind == "clip" else None,
            )
        module = self._interpolating(module, data)
        if self.probe:
            assert data is not None
            batches, digests = data.probe_dataloader(self.probe), sorted(data.digests().values())
            made = fit_probe(module.model, batches, device=device, probe_data=digests)
            print_rank_zero(
                f"probe: the last layer is fitted to {made['probe_fitted']} images of the training split; l2 "
                f"{made['probe_l2']:g}, cross-entropy {made['probe_held_out_cross_entropy']:.3f} on a held-out fifth"
            )
        return module

    def _interpolating(self, module: HarmonizerModule, data: ShardData | None) -> HarmonizerModule:
        """Let the module take the data's images where these have another size than its own."""
        if data is not None and data.image_size != self.image_size:
            module.model.interpolates_to, module.model.image_size = self.image_size, data.image_size
        return module

    def _with_texts(self, architecture: Architecture, classes: Sequence[str]) -> Architecture:
        """Return a zero-shot classifier's architecture with the texts of the data's classes."""
        return with_texts(architecture, classes, prompts=self.prompts, class_names=self.class_names)

    def _check_classes(self, architecture: Architecture, classes: Sequence[str]) -> None:
        """Raise where a model's own head does not know the data's classes."""
        check_own_classes(self.model, architecture, classes)
        if self.seed is None and self.weights is None and len(classes) != architecture.num_classes:
            raise ValueError(
                f"{self.model} tells {architecture.num_classes} classes apart and the data have {len(classes)}; choose "
                "data with the model's classes, fit a head with probe=true, or train one with train.py --pretrained"
            )


def resolve_model(
    ckpt: str | None = None,
    model: str | None = None,
    *,
    label: str | None = None,
    image_size: int | None = None,
    seed: int = 0,
    model_args: Mapping[str, Any] | None = None,
    probe: bool = False,
    probe_images: int = MOST_PROBE_IMAGES,
    **given: Any,  # noqa: ANN401 - attributes of ModelSpec, which has their types
) -> ModelSpec:
    """Return the model that a checkpoint or a name stands for.

    ``ckpt`` is a file of train.py or its run folder, which ``model`` takes as well; with a checkpoint of a model of the
    user's own, ``model`` is its code. The others are attributes of :class:`ModelSpec`; ``probe`` fits the last linear
    layer to at most ``probe_images`` of the training split, drawn at random by the seed 0.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: Neither or both are given, the checkpoint is not usable, or there is no such model.
    """
    if ckpt is None and model is not None and is_checkpoint(model):
        ckpt, model = model, None
    if (ckpt is None and model is None) or (ckpt is not None and model is not None and not is_code(model)):
        got = "neither" if ckpt is None else f"both: ckpt={ckpt} and model={model}; try one of them"
        raise ValueError(f"expected either ckpt=FILE or model=NAME, got {got}")
    if probe and probe_images < 1:
        raise ValueError(f"expected probe_images of at least 1, got {probe_images}")
    asked = ModelSpec(
        model or "",
        image_size or 0,
        "" if label is None else plain_text(str(label), "label"),  # a number, on the command line
        seed=seed,
        model_args=dict(model_args or {}),
        probe=probe_images if probe else 0,
        **given,
    )
    if asked.weights in ("raw", "ema"):
        raise ValueError(
            f"weights=FILE takes a file; for weights={asked.weights} write ema={str(asked.weights == 'ema').lower()}"
        )
    if ckpt is None:
        return _of_name(asked)
    of_names = {"image_size": image_size, "model_args": model_args or None, "probe": probe or None}
    of_names |= {name: getattr(asked, name) for name in ("mean", "std", "prompts", "class_names")}
    if set_here := {name: value for name, value in of_names.items() if value is not None}:
        names = ", ".join(set_here)
        raise ValueError(f"expected {names} with model=NAME only, got {set_here}; a checkpoint has its own")
    return _of_checkpoint(find_checkpoint(ckpt), asked)


def is_checkpoint(name: str) -> bool:
    """Return whether a name is a checkpoint's path, or that of a run folder."""
    return name.endswith(".ckpt") or (Path(name) / BEST).is_file()


def _of_name(asked: ModelSpec) -> ModelSpec:
    """Return what a name stands for; an empty label and an image size of 0 become the model's."""
    if asked.ema:
        raise ValueError("expected ema=true with ckpt=FILE only, which holds an average where train.py kept one")
    architecture = resolve(asked.model).fed(asked.mean, asked.std)
    if architecture.kind != "clip" and (asked.prompts is not None or asked.class_names is not None):
        raise ValueError(f"expected prompts and class_names with model=clip:NAME only, got {asked.model}")
    if asked.probe and architecture.kind == "clip":
        raise ValueError(f"expected probe=true with a model that has a last linear layer, got model={asked.model}")
    random = not (asked.pretrained or asked.weights or architecture.tag or architecture.weights)
    made = model_label(asked.model) + (f"-{Path(asked.weights).stem}" if asked.weights else "")
    if random:
        made += "-untrained" * (architecture.kind != "factory") + f"-seed-{asked.seed}" * bool(asked.seed)
    made += "-probe" * bool(asked.probe) + "".join(f"-{key}={value}" for key, value in sorted(asked.model_args.items()))
    return replace(
        asked,
        image_size=asked.image_size or architecture.image_size,
        label=asked.label or made,
        architecture=architecture,
        seed=asked.seed if random else None,
    )


def _of_checkpoint(path: Path, asked: ModelSpec) -> ModelSpec:
    """Return what a checkpoint holds; the model of what is asked for is its code, if it is of the user's own."""
    content = read_checkpoint(path, mmap=True)
    state_of(path, content, ema=asked.ema)
    settings = content["hyper_parameters"]
    name = code_of(path, settings["model"], asked.model or None, trust=asked.trust)
    architecture = architecture_of(path, settings, name)
    trained = plain_text(condition(settings), "supervision")
    attacked = plain_text(str(settings.get("adversarial", "none")), "adversarial")  # older checkpoints have none
    trained += f"-{attacked}" * (attacked != "none")
    made = f"{model_label(name)}-{trained}-seed-{settings['seed']}" + "-ema" * asked.ema
    made += f"-{Path(asked.weights).stem}" if asked.weights else ""
    return ModelSpec(
        name,
        settings["image_size"],
        asked.label or made,
        architecture.fed(settings.get("input_mean"), settings.get("input_std")),
        checkpoint=path,
        weights=asked.weights,
        ema=asked.ema,
        trust=asked.trust,
    )
