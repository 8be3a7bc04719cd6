"""The progress of training and evaluation: live bars in a terminal, lines in a log file."""

import time

import lightning as L
from lightning.pytorch.callbacks import ProgressBar

from callbacks.evaluation import EvaluationHooks, data_of
from harmonizer.cli.console import Bars, duration, print_rank_zero
from harmonizer.evaluation.progress import Progress as Measured
from harmonizer.run import is_rank_zero

LOSSES = ("train/cross_entropy", "train/harmonizer_loss", "train/supervision_loss")
SCORES = ("val/accuracy", "val/accuracy_ema")


class Progress(ProgressBar, EvaluationHooks):
    """Show steps, validation images and attacked images with rate and time left, and print a line per epoch.

    Epochs and steps count from 1. The step bar spans the whole run.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bars = Bars(shown=is_rank_zero())
        self._steps, self._images, self._attack = (self._bars.task(unit) for unit in ("step", "image", "image"))
        self._epoch_began = 0.0

    def disable(self) -> None:
        """Do nothing: only the first process shows bars."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bars and start the epoch's clock, also if a run resumes within an epoch."""
        self._bars.start()
        self._epoch_began = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's clock."""
        self._epoch_began = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Start the clock of the run."""
        self._show_steps(trainer, batch_idx)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Show the step, with its losses."""
        self._show_steps(trainer, batch_idx + 1)

    def _show_steps(self, trainer: L.Trainer, done: int) -> None:
        epoch, epochs, steps = trainer.current_epoch, trainer.max_epochs or 1, trainer.num_training_batches
        name = f"epoch {epoch + 1}/{epochs} step {done}/{steps}"
        self._steps.update(name, epoch * steps + done, epochs * steps, lambda: _values(trainer, LOSSES))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's losses, scores and time."""
        values = _values(trainer, [f"{name}_epoch" for name in LOSSES] + list(SCORES))
        seconds = duration(time.monotonic() - self._epoch_began)
        print_rank_zero(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {values}, {seconds}")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bars of an evaluation; those of a training are already visible."""
        self._bars.start()

    def on_images_attacked(self, trainer: L.Trainer, done: int, progress: Measured) -> None:
        """Show the number of attacked images."""
        done = min(done, progress.total)
        self._attack.update(f"attacked {done}/{progress.total} images", done, progress.total)

    def on_gradients_examined(self, trainer: L.Trainer, done: int, total: int) -> None:
        """Show the progress of the gradient-masking report."""
        if not done:
            self._attack.begin()
        self._attack.update(f"examined gradients {done}/{total}", done, total)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int, *_: int
    ) -> None:
        """Show the number of classified images."""
        data = data_of(trainer)
        total = data.manifest.samples
        done = min((batch_idx + 1) * data.eval_batch_size * trainer.world_size, total)
        self._images.update(f"validated {done}/{total} images", done, total)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the bars of the validation."""
        self._images.hide()
        self._attack.hide()
        if trainer.state.fn == "validate":
            self._bars.stop()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove the bars."""
        self._bars.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove the bars before the error message."""
        self._bars.stop()


def _values(trainer: L.Trainer, names: list[str] | tuple[str, ...]) -> str:
    """Format logged values with their names."""
    found = trainer.callback_metrics
    return ", ".join(f"{name.removesuffix('_epoch')} {float(found[name]):.4f}" for name in names if name in found)
