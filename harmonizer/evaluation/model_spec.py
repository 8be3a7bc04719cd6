"""The model that evaluate.py measures: a checkpoint of train.py, or a model by name with an optional new head."""

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

MOST_PROBE_IMAGES = 50_000  # default limit of images that a probe is fitted to


@dataclass(frozen=True)
class ModelSpec:
    """A model to measure, before its data are known; fields without a comment are settings of `load`."""

    model: str  # name; see `sources`
    image_size: int  # input height and width in pixels
    label: str  # name in tables and figures
    architecture: Architecture | None = None  # architecture of the name; None resolves it
    checkpoint: Path | None = None  # path of the checkpoint; None for other models
    pretrained: bool = False
    weights: str | None = None
    ema: bool = False
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    seed: int | None = None  # seed of random weights; None for all others
    model_args: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False  # run code that the checkpoint names
    prompts: str | Sequence[str] | None = None
    class_names: str | Sequence[str] | None = None
    probe: int = 0  # most training images that the last linear layer is fitted to; 0 keeps the layer

    @property
    def source(self) -> str | Architecture:
        """The architecture if it is known, else the name."""
        return self.architecture or self.model

    @property
    def origin(self) -> str:
        """The origin of the weights, in words."""
        if self.checkpoint or self.weights:
            return f"{self.checkpoint or ''}{' with ' * bool(self.checkpoint and self.weights)}{self.weights or ''}"
        if self.architecture is not None and self.architecture.kind == "factory":
            return "as the function returns it"
        return "published weights" if self.seed is None else "random weights"

    def restored(self, classes: Sequence[str] | None = None) -> HarmonizerModule:
        """Return the module of the checkpoint, whose classes must equal these unless they are None."""
        assert self.checkpoint is not None
        module = restore(self.checkpoint, classes, ema=self.ema, model=self.model, trust=self.trust)
        if self.weights is not None:
            load_all_but_head(module.model.backbone, self.weights, read_weights(self.weights))
        return module

    def head(self, data: ShardData) -> dict[str, Any]:
        """Return the description of a head made for the data, for summary.json; empty for the model's own head."""
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
            data: Data whose training split a probe is fitted to. Images of another size than the model's are
                interpolated.
            device: Device of the probe's fit.

        Raises:
            ValueError: The model has other classes, or the same in another order.
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
        """Make the module interpolate the data's images if these have another size than its own."""
        if data is not None and data.image_size != self.image_size:
            module.model.interpolates_to, module.model.image_size = self.image_size, data.image_size
        return module

    def _with_texts(self, architecture: Architecture, classes: Sequence[str]) -> Architecture:
        """Return a zero-shot architecture with one text per class of the data."""
        return with_texts(architecture, classes, prompts=self.prompts, class_names=self.class_names)

    def _check_classes(self, architecture: Architecture, classes: Sequence[str]) -> None:
        """Check that a model's own head has the data's classes."""
        check_own_classes(self.model, architecture, classes)
        if self.seed is None and self.weights is None and len(classes) != architecture.num_classes:
            raise ValueError(
                f"expected data with the {architecture.num_classes} classes of {self.model}, got {len(classes)}; "
                "try other data, fit a head with probe=true, or train one with train.py --pretrained"
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
    """Return the specification of a checkpoint or a model name.

    ``ckpt`` is a checkpoint of train.py or its run folder; ``model`` takes these, too. If the checkpoint holds
    the user's own model, ``model`` names its code. The other arguments are fields of :class:`ModelSpec`. ``probe`` fits
    the last linear layer to at most ``probe_images`` images of the training split, drawn at random with seed 0.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        ValueError: Neither or both are given, the checkpoint is unusable, or there is no such model.
    """
    if ckpt is None and model is not None and is_checkpoint(model):
        ckpt, model = model, None
    if (ckpt is None and model is None) or (ckpt is not None and model is not None and not is_code(model)):
        got = "neither" if ckpt is None else f"both: ckpt={ckpt} and model={model}; try one of them"
        raise ValueError(f"expected either ckpt=FILE or model=NAME, got {got}")
    if probe and probe_images < 1:
        raise ValueError(f"expected probe_images >= 1, got {probe_images}")
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
            f"expected a file in weights=FILE, got {asked.weights}; try ema={str(asked.weights == 'ema').lower()}"
        )
    if ckpt is None:
        return _of_name(asked)
    of_names = {"image_size": image_size, "model_args": model_args or None, "probe": probe or None}
    of_names |= {name: getattr(asked, name) for name in ("mean", "std", "prompts", "class_names")}
    if set_here := {name: value for name, value in of_names.items() if value is not None}:
        names = ", ".join(set_here)
        raise ValueError(f"expected {names} with model=NAME only, got {set_here}; a checkpoint sets its own")
    return _of_checkpoint(find_checkpoint(ckpt), asked)


def is_checkpoint(name: str) -> bool:
    """Return whether a name is the path of a checkpoint or a run folder."""
    return name.endswith(".ckpt") or (Path(name) / BEST).is_file()


def _of_name(asked: ModelSpec) -> ModelSpec:
    """Complete the specification of a name; an empty label and an image size of 0 become the model's."""
    if asked.ema:
        raise ValueError("expected ema=true with ckpt=FILE only, got a model name")
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
    """Return the specification of a checkpoint; ``asked.model`` is the code of a user's own model."""
    content = read_checkpoint(path, mmap=True)
    state_of(path, content, ema=asked.ema)
    settings = content["hyper_parameters"]
    name = code_of(path, settings["model"], asked.model or None, trust=asked.trust)
    architecture = architecture_of(path, settings, name)
    trained = plain_text(condition(settings), "supervision")
    attacked = plain_text(str(settings.get("adversarial", "none")), "adversarial")  # missing in older checkpoints
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
