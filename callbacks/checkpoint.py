"""``last.ckpt``, written at intervals, at the end of each epoch and on signals, and ``best.ckpt``."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from callbacks.interrupt import StopAtSignal
from harmonizer.run import LAST, PREVIOUS
from harmonizer.training.checkpoint_io import read_checkpoint, write_checkpoint
from harmonizer.untrusted import inside

CONTINUE, SAVE, STOP = 0, 1, 2  # decisions after a step, the same in all processes; STOP + n stops at signal n


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically, keep the previous ``last.ckpt``, and read them without unpickling objects."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint; see :func:`harmonizer.training.checkpoint_io.write_checkpoint`."""
        path = Path(path)
        write_checkpoint(checkpoint, path, previous=path.with_name(PREVIOUS) if path.name == LAST else None)

    def load_checkpoint(self, path: str | Path, *_: object, **__: object) -> dict[str, Any]:
        """Read tensors and plain values of a checkpoint to the CPU."""
        return read_checkpoint(Path(path))


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which also restores the score of the last validation."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        # A better checkpoint removes these files, so they must lie in the run folder.
        state_dict = state_dict | {
            name: self._own(state_dict[name])
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
            if name in state_dict
        }
        if isinstance(state_dict.get("best_k_models"), dict):
            kept = state_dict["best_k_models"]
            state_dict["best_k_models"] = {self._own(path): score for path, score in kept.items()}
        super().load_state_dict(state_dict)
        self.current_score = state_dict.get("current_score")

    def _own(self, path: object) -> str:
        """Return the file of this name in the run folder; empty for an empty path."""
        return str(inside(Path(str(self.dirpath)), Path(str(path)).name)) if path else ""


class LastCheckpoint(StopAtSignal, Checkpoint):
    """Keep ``last.ckpt``, from which the same command resumes, and ``last-previous.ckpt``.

    Checkpoints are saved between two optimiser steps or at the end of an epoch, never during a validation, so that a
    run resumes bit for bit. A signal during a validation ends the run at the model's next pass; the latest checkpoint
    then precedes the epoch's last step. Processes that Lightning started end with the first one.

    Args:
        folder: Run folder.
        minutes: Longest training time between two checkpoints.

    Raises:
        ValueError: ``minutes`` is not positive.
    """

    def __init__(self, folder: str | Path, *, minutes: float = 10.0) -> None:
        if minutes <= 0:
            raise ValueError(f"expected checkpoint_minutes > 0, got {minutes}")
        super().__init__(folder)
        self.path = Path(folder) / LAST
        self.minutes = minutes
        self.saved_at = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Install the signal handlers."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due or a signal has arrived, in all processes after the same step."""
        done, every, batches = batch_idx + 1, trainer.accumulate_grad_batches, trainer.num_training_batches
        if done % every or done >= batches:  # gradients are being accumulated, or a validation follows
            return
        self._act(trainer, self._decision(trainer, before_validation=done + every >= batches))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Watch the model's passes."""
        if trainer.state.fn == "fit":
            super().on_validation_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save."""
        self._act(trainer, max(SAVE, self._decision(trainer, before_validation=False)))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore the signal handlers; exit if a signal has arrived."""
        self.signals.give_back()
        self.signals.stop(f" after the last step; the run in {self.path.parent} is complete")

    def _look(self, trainer: L.Trainer) -> None:
        if self.signals.number:
            self._leave(self.signals.number, f" in the validation at step {trainer.global_step}")

    def _decision(self, trainer: L.Trainer, *, before_validation: bool) -> int:
        """Return the decision after a step, the largest of all processes."""
        # A validation may be long and cannot be resumed, so a checkpoint is due sooner before it.
        longest = self.minutes * 60 * (0.1 if before_validation else 1.0)
        due = time.monotonic() - self.saved_at > longest
        wish = STOP + self.signals.number if self.signals.number else SAVE if due else CONTINUE
        return int(trainer.strategy.reduce(torch.tensor(wish, device=trainer.strategy.root_device), reduce_op="max"))

    def _act(self, trainer: L.Trainer, decision: int) -> None:
        if decision >= SAVE:
            trainer.save_checkpoint(self.path, weights_only=False)
            self.saved_at = time.monotonic()
        if decision >= STOP:
            self._leave(decision - STOP, f" at step {trainer.global_step}")

    def _leave(self, number: int, where: str) -> None:
        self.signals.number = number  # another process may have received the signal
        saved = any(path.exists() for path in (self.path, self.path.with_name(PREVIOUS)))
        resume = f"resume from {self.path.parent}" if saved else "start again: nothing is saved yet"
        self.signals.stop(f"{where}; rerun the same command to {resume}")
