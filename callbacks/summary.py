"""What an evaluation is asked for, and the summary of what it found."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import numpy as np
import timm
import torch
import torchvision

import harmonizer
from callbacks.ceilings import alignment_of
from callbacks.health import Health
from callbacks.robustness import Robustness
from harmonizer.checkpoint import Subject
from harmonizer.data.datamodule import ShardData
from harmonizer.fast import fast_mode
from harmonizer.models import weights_digest
from harmonizer.module import HarmonizerModule
from harmonizer.report.families import guess_family
from harmonizer.results import COLUMNS, VERSION, creation_time, protocol_hash
from harmonizer.statistics import (
    AS_PUBLISHED,
    BOUND,
    STATUSES,
    as_published_summary,
    mean_summary,
    proportion,
    robust_accuracy,
    survival,
    tolerance_summary,
)

C = TypeVar("C", bound=L.Callback)

RADII = 101  # points of the survival curve, from 0 to the attack's largest radius


def summarise(
    trainer: L.Trainer,
    module: HarmonizerModule,
    rows: Sequence[Mapping[str, Any]],
    *,
    subject: Subject,
    accuracy: float,
    data_name: str,
    family: str | None,
    seconds: float,
) -> dict[str, Any]:
    """Assemble ``summary.json``.

    Args:
        trainer: After the evaluation, with its callbacks.
        module: What was measured.
        rows: One an image, over all processes.
        subject: What was asked for.
        accuracy: Over all samples.
        data_name: Of the data set.
        family: Of the model; None takes it from its training or guesses it from its name.
        seconds: That the measurement took.
    """
    robustness = find(callbacks_of(trainer), Robustness)
    settings = module.hparams
    trained = subject.checkpoint is not None
    data = data_of(trainer)
    manifest = data.manifest
    skipped = int(trainer.callback_metrics.get("val/skipped_samples", 0))  # damaged ones, where the data say so
    status = [STATUSES.index(row["status"]) for row in rows]
    radius = [row["l2"] for row in rows]
    eps_max = robustness.tolerance.eps_max
    request = request_of(subject, data, robustness)
    protocol = request["protocol"] | {"eps_max": eps_max}
    return {
        "version": VERSION,
        "model": request["model"]
        | {
            "label": subject.label,
            "family": family or (_family(settings) if trained else guess_family(settings["model"])),
            "pretrained": settings["pretrained"],
            "checkpoint": subject.checkpoint.name if subject.checkpoint else None,
            "weights_sha256": weights_digest(module.model),
            "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
        },
        "training": _training(settings) if trained else None,
        "data": {
            "name": data_name,
            "manifest_sha256": manifest.digest(),
            "samples": manifest.samples,
            "skipped": skipped,
            "classes": len(manifest.classes),
        },
        "protocol": protocol | {"hash": protocol_hash(protocol)},
        "accuracy": proportion(round(accuracy * (manifest.samples - skipped)), manifest.samples - skipped),
        "tolerance": tolerance_summary(status, radius, eps_max=eps_max),
        "survival": survival(status, radius, np.linspace(0, eps_max, RADII)),
        "robust_accuracy": {"label": BOUND, "budgets": robust_accuracy(status, radius, eps_max=eps_max)},
        "alignment_by_mask": _by_mask(rows),
        "as_published": _replay(robustness, rows, status, radius),
        "adversarial_alignment": alignment_of(
            trainer, [row for row in rows if row["status"] == "found" and row["has_map"]], "alignment"
        ),
        "feature_alignment": alignment_of(trainer, [row for row in rows if row["has_map"]], "feature_alignment"),
        "health": card_of(trainer),
        "cost": {
            "forwards": sum(row["forwards"] for row in rows),
            "backwards": sum(row["backwards"] for row in rows),
            "seconds": seconds,
        },
        "software": {
            "harmonizer": harmonizer.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "timm": timm.__version__,
            "lightning": L.__version__,
            "python": platform.python_version(),
        },
        "device": _device(module.device),
        "fast": fast_mode(),
        "created": creation_time(),
    }


def request_of(subject: Subject, data: ShardData, robustness: Robustness) -> dict[str, Any]:
    """Return what is known before a measurement and decides its numbers: the protocol, and the model as it is fed.

    Models of different input size share a protocol: a zoo has many sizes. The size is the model's own property.
    """
    transform, path = data.eval_transform, subject.checkpoint
    return {
        "protocol": {
            "attack": robustness.attack,
            "settings": robustness.settings,
            "images": images_measured(data, robustness),
            "data": data.manifest.digest(),
            **({"sample_names": "SHARD/KEY"} if data.manifest.repeated_keys else {}),  # seeds depend on names
        },
        "model": {
            "name": subject.model,
            "checkpoint_sha256": None if path is None else _digest(path),
            "weights": subject.weights,
            "seed": subject.seed,
            "input_size": data.image_size,
            "crop_ratio": transform.crop_ratio,
            "interpolation": transform.interpolation,
        },
    }


def images_measured(data: ShardData, robustness: Robustness) -> int:
    """Return how many images are measured."""
    wanted = robustness.selection.images
    return data.manifest.samples if wanted is None else min(wanted, data.manifest.samples)


def find(callbacks: Sequence[L.Callback], kind: type[C]) -> C:
    """Return the callback of a kind."""
    for callback in callbacks:
        if isinstance(callback, kind):
            return callback
    raise ValueError(f"expected a {kind.__name__} callback beside ResultsWriter; add it to the callbacks")


def callbacks_of(trainer: L.Trainer) -> list[L.Callback]:
    """Return the trainer's callbacks, in their order."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def data_of(trainer: L.Trainer) -> ShardData:
    """Return the trainer's data."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, ShardData)
    return data


def card_of(trainer: L.Trainer) -> dict[str, Any] | None:
    """Return the gradient-health card, if one was asked for."""
    cards = [callback.card for callback in callbacks_of(trainer) if isinstance(callback, Health)]
    return cards[0] if cards else None


def _training(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the model was trained, without what names the model itself."""
    return {name: value for name, value in settings.items() if name not in ("model", "classes", "pretrained")}


def _family(settings: Mapping[str, Any]) -> str:
    """Return the family of a model trained here."""
    return "harmonized" if settings["harmonize"] else "control"


def _by_mask(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average adversarial alignment under the masks beside the published one."""
    found = [row for row in rows if row["status"] == "found" and row["has_map"]]
    columns = [name for name in COLUMNS if name.startswith("alignment_")]
    return {name.removeprefix("alignment_"): mean_summary([row[name] for row in found]) for name in columns}


def _replay(
    robustness: Robustness, rows: Sequence[Mapping[str, Any]], status: Sequence[int], radius: Sequence[float]
) -> dict[str, Any] | None:
    """Mark a replay of the published protocol, and average as it did; None for every other attack."""
    if robustness.attack != AS_PUBLISHED:
        return None
    never = robustness.settings.get("never_fooled", "dropped")
    average = as_published_summary(status, radius, [row["label"] for row in rows], never_fooled=never)
    return {"warning": "a replay of a protocol with known defects: not a measurement", "tolerance": average}


def _digest(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _device(device: torch.device) -> str:
    """Name a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
