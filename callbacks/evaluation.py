"""Measure tolerance and alignment on validation images, and notify other callbacks."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import torch

from harmonizer.data.batch import Batch
from harmonizer.data.datamodule import ShardData
from harmonizer.data.loader import REPEATED
from harmonizer.evaluation.masking import MaskingReport
from harmonizer.evaluation.progress import Progress
from harmonizer.evaluation.scores import scores_of
from harmonizer.evaluation.summary import Outcome, Protocol
from harmonizer.results import Row
from harmonizer.training.module import HarmonizerModule


class EvaluationHooks:
    """Base of callbacks that :class:`Evaluation` notifies, in any order."""

    def on_evaluation_start(self, trainer: L.Trainer, pl_module: L.LightningModule, progress: Progress) -> None:
        """Called at the start; may add rows and examples of an interrupted evaluation to ``progress``."""

    def on_images_attacked(self, trainer: L.Trainer, done: int, progress: Progress) -> None:
        """Called with the number of images attacked so far, over all processes."""

    def on_gradients_examined(self, trainer: L.Trainer, done: int, total: int) -> None:
        """Called with the progress of the gradient-masking report, in the first process."""

    def on_rows(
        self, trainer: L.Trainer, pl_module: L.LightningModule, rows: Sequence[Row], progress: Progress
    ) -> None:
        """Called with new rows, or without rows when ``progress.health`` has changed."""

    def on_evaluation_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outcome: Outcome, progress: Progress
    ) -> None:
        """Called in each process with the outcome over all processes."""


class Evaluation(L.Callback):
    """Measure tolerance and alignment on the first validation images, and log the scores over all processes.

    Logs ``val/tolerance_median``, ``val/adversarial_alignment``, ``val/feature_alignment`` and the other scores of
    :func:`harmonizer.evaluation.scores.scores_of`. Callbacks that are :class:`EvaluationHooks` get the
    rows.

    Args:
        attack: Name of the attack.
        settings: Settings of the attack.
        every_n_epochs: In training, measure after every n-th epoch and after the last; 0 never measures.
        at_once: Images attacked in one call, after which their rows are kept; None takes a batch, and fewer on a CPU.
        health: Largest number of correctly classified images whose gradients are examined for masking, in the first
            process, after the attacks; :class:`harmonizer.evaluation.masking.MaskingReport` limits the cost. 0 makes no
            report.
        protocol: Other fields of :class:`harmonizer.evaluation.summary.Protocol`; images are over all processes.

    Raises:
        ValueError: A number is out of range.
    """

    protocol: Protocol

    def __init__(
        self,
        attack: str,
        settings: Mapping[str, Any] | None = None,
        *,
        every_n_epochs: int = 1,
        at_once: int | None = None,
        health: int = 0,
        **protocol: Any,  # noqa: ANN401 - fields of Protocol, which has their types
    ) -> None:
        for name, value in {"images": protocol.get("images"), "at_once": at_once}.items():
            if value is not None and value < 1:
                raise ValueError(f"expected {name} >= 1, or null, got {value}")
        for name, value in {"every_n_epochs": every_n_epochs, "health": health}.items():
            if value < 0:
                raise ValueError(f"expected {name} >= 0, got {value}")
        self.protocol = Protocol(attack, dict(settings or {}), **protocol)
        self.every_n_epochs = every_n_epochs
        self.at_once = at_once
        self.health = health
        self._progress: Progress | None = None  # None if no evaluation is due
        self._seen = 0
        self._began = 0.0
        self._rows: list[Row] = []
        self._skipped = 0

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start an evaluation if one is due."""
        self._progress, self._seen = None, 0
        if not self._is_due(trainer):
            return
        self._began = time.monotonic()
        eps_max = self.protocol.settings.get("eps_max", 10.0)
        total = self.protocol.count(data_of(trainer))
        self._progress = Progress(self.protocol, total, self.at_once, eps_max=eps_max)
        for callback in _listeners(trainer):
            callback.on_evaluation_start(trainer, pl_module, self._progress)
        self._progress.prepare(data_of(trainer).classes, data_of(trainer))
        if self.health and trainer.is_global_zero and self._progress.health is None:
            self._progress.masking = MaskingReport(self.health)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, *_: object
    ) -> None:
        """Measure the images of the batch that belong to the evaluation."""
        progress = self._progress
        if progress is None:
            return
        assert isinstance(pl_module, HarmonizerModule)

        def attacked(done: int) -> None:
            for callback in _listeners(trainer):
                callback.on_images_attacked(trainer, done * trainer.world_size, progress)

        chosen = self._chosen(trainer, batch)
        for _, rows in progress.measure(pl_module.model, chosen, pl_module.device, attacked):
            self._tell(trainer, pl_module, rows)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Examine the gradients, in the first process, and log the scores; called by every process."""
        if self._progress is None:
            return
        self._examine(trainer, pl_module)
        data = data_of(trainer)
        self._rows, self._skipped = _gathered(self._progress.rows, data.skipped)
        ceilings = data.manifest.ceilings
        reached = None if ceilings is None else {row.key: ceilings.of(row.key) for row in self._rows}
        scores = scores_of(self._rows, eps_max=self._progress.eps_max, ceilings=reached)
        for name, value in scores.items():
            pl_module.log(f"val/{name}", value, rank_zero_only=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pass the outcome to the other callbacks."""
        progress = self._progress
        if progress is None:
            return
        outcome = Outcome(
            rows=self._rows,
            accuracy=float(trainer.callback_metrics["val/accuracy"]),
            eps_max=progress.eps_max,
            skipped=self._skipped,
            health=progress.health,
            seconds=time.monotonic() - self._began,
        )
        for callback in _listeners(trainer):
            callback.on_evaluation_end(trainer, pl_module, outcome, progress)

    def _is_due(self, trainer: L.Trainer) -> bool:
        if trainer.sanity_checking or (trainer.state.fn == "fit" and not self.every_n_epochs):
            return False
        epoch = trainer.current_epoch + 1
        return trainer.state.fn != "fit" or epoch == trainer.max_epochs or epoch % self.every_n_epochs == 0

    def _chosen(self, trainer: L.Trainer, batch: Batch) -> Batch:
        """Return the part of this process's batch to measure; see ``EvaluationBatches``."""
        count = len(batch.labels)
        if self.protocol.images is not None:
            quota = len(range(trainer.global_rank, self.protocol.images, trainer.world_size))
            count = max(min(count, quota - self._seen), 0)
        self._seen += len(batch.labels)
        return batch.part(0, count)

    def _examine(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Make the gradient-masking report if one is due."""
        progress = self._progress
        assert progress is not None and isinstance(module, HarmonizerModule)
        if progress.masking is None:
            return

        def examined(done: int, total: int) -> None:
            for callback in _listeners(trainer):
                callback.on_gradients_examined(trainer, done, total)

        progress.health = progress.masking.make(module.model, progress.rows.values(), examined)
        progress.masking = None
        self._tell(trainer, module, [])

    def _tell(self, trainer: L.Trainer, module: L.LightningModule, rows: list[Row]) -> None:
        assert self._progress is not None
        for callback in _listeners(trainer):
            callback.on_rows(trainer, module, rows, self._progress)


def data_of(trainer: L.Trainer) -> ShardData:
    """Return the trainer's data."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, ShardData)
    return data


def _listeners(trainer: L.Trainer) -> Iterator[EvaluationHooks]:
    """Return the callbacks with evaluation hooks."""
    return (callback for callback in trainer.callbacks if isinstance(callback, EvaluationHooks))  # type: ignore[attr-defined]


def _gathered(rows: Mapping[str, Row], skipped: int) -> tuple[list[Row], int]:
    """Return the rows of all processes, sorted by key, and the number of skipped samples."""
    parts: list[tuple[list[Row], int]] = [(list(rows.values()), skipped)]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        mine, parts = parts[0], parts * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, mine)
    merged = sorted((row for part, _ in parts for row in part), key=lambda row: row.key)
    twice = [key for key, count in Counter(row.key for row in merged).items() if count > 1]
    if twice:
        raise ValueError(f"two samples are named {twice[0]!r}; {REPEATED}")
    return merged, sum(count for _, count in parts)
