"""Write an evaluation's results folder."""

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import numpy as np
import timm
import torch

import harmonizer
from callbacks.alignment import FeatureAlignment
from callbacks.ceilings import alignment_of
from callbacks.health import Health
from callbacks.robustness import Robustness
from harmonizer.checkpoint import Subject
from harmonizer.data.datamodule import ShardData
from harmonizer.models import evaluation_saliency, weights_digest
from harmonizer.module import HarmonizerModule
from harmonizer.report.families import guess_family
from harmonizer.results import COLUMNS, VERSION, creation_time, folder_name, protocol_hash, write_results
from harmonizer.statistics import STATUSES, proportion, survival, tolerance_summary

C = TypeVar("C", bound=L.Callback)

RADII = 101  # points of the survival curve, from 0 to the attack's largest radius


class ResultsWriter(L.Callback):
    """Gather the rows of the measuring callbacks over all processes and write the results folder.

    Args:
        results: Folder of results folders; the model's own is named by its label. See :mod:`harmonizer.results`.
        subject: What is measured.
        data_name: Of the data set.
        overwrite: Replace results that are there.
    """

    def __init__(
        self,
        results: str | Path,
        *,
        subject: Subject,
        data_name: str,
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(results) / folder_name(subject.label)
        self.subject = subject
        self.data_name = data_name
        self.overwrite = overwrite
        self.start = 0.0

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to measure for nothing."""
        if self.folder.exists() and not self.overwrite:
            raise FileExistsError(f"{self.folder} holds results already; add overwrite=true or choose results=FOLDER")
        self.start = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, in one process."""
        if trainer.sanity_checking:
            return
        robustness, alignment = _find(trainer, Robustness), _find(trainer, FeatureAlignment)
        rows = _gathered(
            {key: row | alignment.rows.get(key, {"feature_alignment": np.nan}) for key, row in robustness.rows.items()}
        )
        accuracy = float(trainer.callback_metrics["val/accuracy"])
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, HarmonizerModule)
        ordered = [rows[key] for key in sorted(rows)]
        summary = self._summary(trainer, pl_module, robustness, ordered, accuracy)
        table = [{name: row[name] for name in COLUMNS} for row in ordered]
        write_results(self.folder, summary, table, _examples(pl_module, robustness), overwrite=self.overwrite)

    def _summary(
        self,
        trainer: L.Trainer,
        module: HarmonizerModule,
        robustness: Robustness,
        rows: Sequence[Mapping[str, Any]],
        accuracy: float,
    ) -> dict[str, Any]:
        """Assemble ``summary.json``."""
        settings = module.hparams
        trained = self.subject.checkpoint is not None
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, ShardData)
        manifest = data.manifest
        status = [STATUSES.index(row["status"]) for row in rows]
        radius = [row["l2"] for row in rows]
        eps_max = robustness.tolerance.eps_max
        protocol = {
            "attack": robustness.attack,
            "settings": robustness.settings,
            "eps_max": eps_max,
            "images": len(rows),
            "data": manifest.digest(),
            "image_size": settings["image_size"],
            "crop_ratio": data.eval_transform.crop_ratio,
            "interpolation": data.eval_transform.interpolation,
        }
        return {
            "version": VERSION,
            "model": {
                "name": settings["model"],
                "label": self.subject.label,
                "family": _family(settings) if trained else guess_family(settings["model"]),
                "pretrained": settings["pretrained"],
                "checkpoint": self.subject.checkpoint.name if self.subject.checkpoint else None,
                "weights_sha256": weights_digest(module.model),
                "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
                "input_size": settings["image_size"],
            },
            "training": _training(settings) if trained else None,
            "data": {
                "name": self.data_name,
                "manifest_sha256": manifest.digest(),
                "samples": manifest.samples,
                "classes": len(manifest.classes),
            },
            "protocol": protocol | {"hash": protocol_hash(protocol)},
            "accuracy": proportion(round(accuracy * manifest.samples), manifest.samples),
            "tolerance": tolerance_summary(status, radius, eps_max=eps_max),
            "survival": survival(status, radius, np.linspace(0, eps_max, RADII)),
            "adversarial_alignment": alignment_of(
                trainer, [row for row in rows if row["status"] == "found" and row["has_map"]], "alignment"
            ),
            "feature_alignment": alignment_of(trainer, [row for row in rows if row["has_map"]], "feature_alignment"),
            "health": _card(trainer),
            "cost": {
                "forwards": sum(row["forwards"] for row in rows),
                "backwards": sum(row["backwards"] for row in rows),
                "seconds": time.monotonic() - self.start,
            },
            "software": {
                "harmonizer": harmonizer.__version__,
                "torch": torch.__version__,
                "timm": timm.__version__,
                "lightning": L.__version__,
                "python": platform.python_version(),
            },
            "device": _device(module.device),
            "created": creation_time(),
        }


def _training(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the model was trained, without what names the model itself."""
    return {name: value for name, value in settings.items() if name not in ("model", "classes", "pretrained")}


def _family(settings: Mapping[str, Any]) -> str:
    """Return the family of a model trained here."""
    return "harmonized" if settings["harmonize"] else "control"


def _device(device: torch.device) -> str:
    """Name a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _find(trainer: L.Trainer, kind: type[C]) -> C:
    """Return the trainer's callback of a kind."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, kind):
            return callback
    raise ValueError(f"expected a {kind.__name__} callback beside ResultsWriter; add it to the callbacks")


def _card(trainer: L.Trainer) -> dict[str, Any] | None:
    """Return the gradient-health card, if one was asked for."""
    cards = [callback.card for callback in trainer.callbacks if isinstance(callback, Health)]  # type: ignore[attr-defined]
    return cards[0] if cards else None


def _gathered(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge every process's rows, each image once."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    gathered: list[dict[str, dict[str, Any]]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, rows)
    return {key: row for part in gathered for key, row in part.items()}


def _examples(module: HarmonizerModule, robustness: Robustness) -> dict[str, np.ndarray] | None:
    """Stack the attacked examples, with their saliency."""
    kept = robustness.examples
    if not kept:
        return None
    arrays = {name: torch.stack([e[name] for e in kept.values()]) for name in ("image", "human", "adversarial")}
    labels = torch.tensor([example["label"] for example in kept.values()])
    device = module.device
    saliency = evaluation_saliency(module.model, arrays["image"].to(device), labels.to(device)).cpu()
    arrays["saliency"] = saliency
    return {"keys": np.array(list(kept)), **{name: array.numpy() for name, array in arrays.items()}}
