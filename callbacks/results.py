"""Write an evaluation's results folder."""

import hashlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import numpy as np
import timm
import torch
import torchvision

import harmonizer
from callbacks.alignment import FeatureAlignment
from callbacks.ceilings import alignment_of
from callbacks.health import Health
from callbacks.robustness import Robustness
from harmonizer.checkpoint import Subject
from harmonizer.data.datamodule import ShardData
from harmonizer.models import evaluation_saliency, weights_digest
from harmonizer.module import HarmonizerModule
from harmonizer.report.families import FAMILIES, guess_family
from harmonizer.results import (
    COLUMNS,
    VERSION,
    Work,
    clear_leftovers,
    creation_time,
    different_settings,
    folder_name,
    load_results,
    protocol_hash,
    write_results,
)
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


class ResultsWriter(L.Callback):
    """Gather the rows of the measuring callbacks over all processes and write the results folder.

    Rows are kept on the disk as they come (:class:`harmonizer.results.Work`): an evaluation that is interrupted and
    started again goes on where it was, and ends with the same results.

    Args:
        results: Folder of results folders; the model's own is named by its label. See :mod:`harmonizer.results`.
        subject: What is measured.
        data_name: Of the data set.
        overwrite: Replace results that are there.
        family: Of the model; None takes it from its training or guesses it from its name.
        report: Called with (images measured, images to measure) as the measurement goes on.
    """

    def __init__(
        self,
        results: str | Path,
        *,
        subject: Subject,
        data_name: str,
        overwrite: bool = False,
        family: str | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> None:
        if family is not None and family not in FAMILIES:
            raise ValueError(f"expected a family of {', '.join(FAMILIES)}, got {family!r} for {subject.label}")
        self.folder = Path(results) / folder_name(subject.label)
        self.subject = subject
        self.data_name = data_name
        self.overwrite = overwrite
        self.family = family
        self.report = report
        self.work: Work | None = None
        self.start = 0.0

    def is_done(self, data: ShardData, callbacks: Sequence[L.Callback]) -> bool:
        """Tell whether the folder holds what these callbacks would measure on these data.

        Raises:
            FileExistsError: It holds other results, which are not to be overwritten.
            ValueError: They are damaged.
        """
        if not self.folder.exists():
            return False
        summary = load_results(self.folder).summary
        wanted = _request(self.subject, data, _find(callbacks, Robustness))
        different = different_settings(wanted, summary)
        if different and not self.overwrite:
            raise FileExistsError(
                f"{self.folder} holds results with other {', '.join(different)}; add overwrite=true to replace them, "
                "or choose results=FOLDER"
            )
        if not different:
            clear_leftovers(self.folder, done=True)
        return not different

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse to measure for nothing; take up the work of an interrupted evaluation."""
        if self.folder.exists() and not self.overwrite:
            raise FileExistsError(f"{self.folder} holds results already; add overwrite=true or choose results=FOLDER")
        assert isinstance(pl_module, HarmonizerModule)
        callbacks, data = _callbacks(trainer), _data(trainer)
        robustness = _find(callbacks, Robustness)
        if callbacks.index(_find(callbacks, FeatureAlignment)) > callbacks.index(robustness):
            raise ValueError("expected the FeatureAlignment callback before Robustness, which makes whole rows of both")
        weights = weights_digest(pl_module.model)
        request = _request(self.subject, data, robustness) | {"weights_sha256": weights, "at_once": robustness.at_once}
        self.work = Work(self.folder, request, rank=trainer.global_rank, world=trainer.world_size)
        trainer.strategy.barrier()
        self.work.start()
        robustness.known = self.work.rows.copy()
        robustness.known_examples = {key: _tensors(example) for key, example in self.work.examples.items()}
        robustness.tolerance.eps_max = self.work.state.get("eps_max", robustness.tolerance.eps_max)
        robustness.after_each = lambda keys: self._keep(trainer, keys)
        if health := [callback for callback in callbacks if isinstance(callback, Health)]:
            health[0].card = self.work.state.get("health")
        self.start = time.monotonic() - self.work.state.get("seconds", 0.0)

    def _keep(self, trainer: L.Trainer, keys: Sequence[str]) -> None:
        """Keep the rows of a few images, and report."""
        assert self.work is not None
        robustness = _find(_callbacks(trainer), Robustness)
        rows = self._rows(trainer)
        examples = robustness.examples if trainer.is_global_zero else {}
        kept = {key: {name: np.asarray(value) for name, value in e.items()} for key, e in examples.items()}
        self.work.keep([rows[key] for key in keys], kept, self._state(trainer))
        if self.report is not None:
            self.report(len(rows) * trainer.world_size, _images(_data(trainer), robustness))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - the logits; not needed
        batch: Any,  # noqa: ANN401 - a Batch; Lightning types it so
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the health card, which comes with the first batch."""
        if batch_idx == 0 and trainer.is_global_zero and self.work is not None:
            self.work.save(self._state(trainer))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, in one process."""
        if trainer.sanity_checking:
            return
        assert self.work is not None
        self.work.close()
        rows = _gathered(self._rows(trainer))
        accuracy = float(trainer.callback_metrics["val/accuracy"])
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, HarmonizerModule)
        robustness = _find(_callbacks(trainer), Robustness)
        ordered = [rows[key] for key in sorted(rows)]
        summary = self._summary(trainer, pl_module, robustness, ordered, accuracy)
        table = [{name: row[name] for name in COLUMNS} for row in ordered]
        write_results(self.folder, summary, table, _examples(pl_module, robustness), overwrite=self.overwrite)
        self.work.remove()

    def _rows(self, trainer: L.Trainer) -> dict[str, dict[str, Any]]:
        """Return this process's rows: those of the attack with feature alignment; kept ones as they were."""
        robustness, alignment = _find(_callbacks(trainer), Robustness), _find(_callbacks(trainer), FeatureAlignment)
        undefined = {"feature_alignment": np.nan}
        return {
            key: alignment.rows.get(key, undefined) | row  # a kept row has its own feature alignment
            for key, row in robustness.rows.items()
        }

    def _state(self, trainer: L.Trainer) -> dict[str, Any]:
        """Return the numbers that rows do not hold."""
        eps_max = _find(_callbacks(trainer), Robustness).tolerance.eps_max
        return {"eps_max": eps_max, "health": _card(trainer), "seconds": time.monotonic() - self.start}

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
        data = _data(trainer)
        manifest = data.manifest
        skipped = int(trainer.callback_metrics.get("val/skipped_samples", 0))  # damaged ones, where the data say so
        status = [STATUSES.index(row["status"]) for row in rows]
        radius = [row["l2"] for row in rows]
        eps_max = robustness.tolerance.eps_max
        request = _request(self.subject, data, robustness)
        protocol = request["protocol"] | {"eps_max": eps_max}
        return {
            "version": VERSION,
            "model": request["model"]
            | {
                "label": self.subject.label,
                "family": self.family or (_family(settings) if trained else guess_family(settings["model"])),
                "pretrained": settings["pretrained"],
                "checkpoint": self.subject.checkpoint.name if self.subject.checkpoint else None,
                "weights_sha256": weights_digest(module.model),
                "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
            },
            "training": _training(settings) if trained else None,
            "data": {
                "name": self.data_name,
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
            "health": _card(trainer),
            "cost": {
                "forwards": sum(row["forwards"] for row in rows),
                "backwards": sum(row["backwards"] for row in rows),
                "seconds": time.monotonic() - self.start,
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
            "created": creation_time(),
        }


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


def _device(device: torch.device) -> str:
    """Name a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _request(subject: Subject, data: ShardData, robustness: Robustness) -> dict[str, Any]:
    """Return what is known before a measurement and decides its numbers: the protocol, and the model as it is fed.

    Models of different input size share a protocol: a zoo has many sizes. The size is the model's own property.
    """
    transform, path = data.eval_transform, subject.checkpoint
    return {
        "protocol": {
            "attack": robustness.attack,
            "settings": robustness.settings,
            "images": _images(data, robustness),
            "data": data.manifest.digest(),
        },
        "model": {
            "name": subject.model,
            "checkpoint_sha256": None if path is None else _digest(path),
            "weights": subject.weights,
            "input_size": data.image_size,
            "crop_ratio": transform.crop_ratio,
            "interpolation": transform.interpolation,
        },
    }


def _digest(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _images(data: ShardData, robustness: Robustness) -> int:
    """Return how many images are measured."""
    wanted = robustness.selection.images
    return data.manifest.samples if wanted is None else min(wanted, data.manifest.samples)


def _find(callbacks: Sequence[L.Callback], kind: type[C]) -> C:
    """Return the callback of a kind."""
    for callback in callbacks:
        if isinstance(callback, kind):
            return callback
    raise ValueError(f"expected a {kind.__name__} callback beside ResultsWriter; add it to the callbacks")


def _callbacks(trainer: L.Trainer) -> list[L.Callback]:
    """Return the trainer's callbacks, in their order."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def _data(trainer: L.Trainer) -> ShardData:
    """Return the trainer's data."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, ShardData)
    return data


def _tensors(example: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a kept example back into what Robustness made it of."""
    return {name: torch.from_numpy(array) if array.ndim else array.item() for name, array in example.items()}


def _card(trainer: L.Trainer) -> dict[str, Any] | None:
    """Return the gradient-health card, if one was asked for."""
    cards = [callback.card for callback in _callbacks(trainer) if isinstance(callback, Health)]
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
