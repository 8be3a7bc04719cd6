"""The log of a training: losses, learning rate, gradient norm, throughput, data wait and memory."""

import math
import resource
import sys
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.metrics_file import MetricsFile
from harmonizer.data.batch import Batch
from harmonizer.data.datamodule import ShardData
from harmonizer.training.module import HarmonizerModule

STATE = "training_log"  # key in a checkpoint
# Averaged over an epoch.
MEANS = {f"train/{name}" for name in ("loss", "cross_entropy", "harmonizer_loss", "supervision_loss", "trades_loss")}


class TrainingLog(L.Callback):
    """Log the training values every ``trainer.log_every_n_steps`` steps, and their means over each epoch.

    The means are over samples and processes. Checkpoints within an epoch hold them, so that a resumed run logs the
    same as an uninterrupted one. Values named ``speed/...`` depend on the machine: samples per second over all
    processes, the share of time that the first process waited for data, and the peak memory (GiB) of its device, or of
    the process on a CPU.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.samples = 0
        self._rate = 0.0
        self._meter = _Meter()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove what was logged after the checkpoint."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.rewind(trainer.global_step)
            elif isinstance(logger, TensorBoardLogger) and trainer.is_global_zero and trainer.global_step:
                _rewind_tensorboard(logger, trainer.global_step)
        self._meter = _Meter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reset the means."""
        self.sums, self.samples = {}, 0
        self._meter.lap()  # what came before, for example a validation, does not count

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Record the data wait and the learning rate of the step."""
        self._rate = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)
        self._meter.waited += self._meter.lap()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Update the means; log a row if one is due."""
        assert isinstance(pl_module, HarmonizerModule)
        count = len(batch.labels)
        values = {f"train/{name}": float(value) for name, value in pl_module.measured.items()}
        if all(math.isfinite(value) for value in values.values()):  # else the step was skipped
            for name, value in values.items():
                if name in MEANS:
                    self.sums[name] = self.sums.get(name, 0.0) + value * count
            self.samples += count
        self._meter.worked += self._meter.lap()
        self._meter.samples += count
        stepped = (
            batch_idx + 1
        ) % trainer.accumulate_grad_batches == 0 or batch_idx + 1 == trainer.num_training_batches
        if stepped and trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            stacked = torch.tensor(list(values.values()), device=trainer.strategy.root_device)
            row = dict(zip(values, trainer.strategy.reduce(stacked).tolist(), strict=True))  # means over processes
            row["lr"] = self._rate
            row |= self._meter.read(trainer)
            self._log(trainer, row)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's means, before a checkpoint is saved."""
        sums, samples = self._over_processes(trainer)
        means = {f"{name}_epoch": total / max(samples, 1) for name, total in sums.items()}
        self._log(trainer, means | {"epoch": trainer.current_epoch})
        for name, value in means.items():
            pl_module.log(name, value, logger=False, rank_zero_only=True)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the epoch's sums and the digests of the training data; called by every process."""
        data = getattr(trainer, "datamodule", None)
        checkpoint["data_sha256"] = data.digests() if isinstance(data, ShardData) else {}
        sums, samples = self._over_processes(trainer)
        checkpoint[STATE] = {"sums": sums, "samples": samples}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the sums, in the first process."""
        state = checkpoint.get(STATE, {"sums": {}, "samples": 0})
        first = trainer.is_global_zero
        self.sums = {name: value if first else 0.0 for name, value in state["sums"].items()}
        self.samples = state["samples"] if first else 0

    def _over_processes(self, trainer: L.Trainer) -> tuple[dict[str, float], int]:
        """Return the sums over all processes."""
        if trainer.world_size == 1:
            return dict(self.sums), self.samples
        gathered: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(gathered, (self.sums, self.samples))
        names = [name for sums, _ in gathered for name in sums]
        totals = {name: sum(sums.get(name, 0.0) for sums, _ in gathered) for name in dict.fromkeys(names)}
        return totals, sum(samples for _, samples in gathered)

    def _log(self, trainer: L.Trainer, row: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step - 1)  # counted from 0, as in Lightning


class _Meter:
    """Time spent in steps and waiting for data since the last reading."""

    def __init__(self) -> None:
        self.samples, self.waited, self.worked = 0, 0.0, 0.0
        self._moment = time.monotonic()

    def lap(self) -> float:
        """Return the seconds since the last call."""
        before, self._moment = self._moment, time.monotonic()
        return self._moment - before

    def read(self, trainer: L.Trainer) -> dict[str, float]:
        """Return the values since the last reading, and reset them."""
        seconds = max(self.waited + self.worked, 1e-9)
        device = trainer.strategy.root_device
        if device.type == "cuda":
            peak = float(torch.cuda.max_memory_allocated(device))
        else:
            unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
            peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
        values = {
            "speed/samples_per_second": self.samples * trainer.world_size / seconds,
            "speed/data_wait_share": self.waited / seconds,
            "speed/memory_gib": peak / 2**30,
        }
        self.samples, self.waited, self.worked = 0, 0.0, 0.0
        return values


def _rewind_tensorboard(logger: TensorBoardLogger, step: int) -> None:
    """Make TensorBoard drop everything logged from a step on."""
    from tensorboard.compat.proto import event_pb2  # an optional dependency, like the logger itself

    session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    start = event_pb2.Event(step=step, session_log=session)
    logger.experiment.file_writer.add_event(start)
