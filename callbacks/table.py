"""The final table in the terminal, and plain lines where there is no terminal."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich.console import Console
from rich.table import Table

from callbacks.evaluation import data_of
from harmonizer.evaluation.summary import ceiling_source
from harmonizer.pair import WIDTH

ROWS = {
    "accuracy": ("accuracy", "{:.1%}"),
    "tolerance_median": ("perturbation tolerance, median L2", "{:.3f}"),
    "tolerance_mean": ("perturbation tolerance, mean of min(L2, max)", "{:.3f}"),
    "share_found": ("  found", "{:.1%}"),
    "share_censored": ("  never fooled (censored)", "{:.1%}"),
    "share_wrong": ("  wrong before any attack", "{:.1%}"),
    "share_failed": ("  failed (no usable gradient)", "{:.1%}"),
    "adversarial_alignment": ("adversarial alignment, Spearman", "{:.3f}"),
    "adversarial_alignment_of_ceiling": ("  share of the human ceiling", "{:.1%}"),
    "feature_alignment": ("feature alignment, Spearman", "{:.3f}"),
    "feature_alignment_of_ceiling": ("  share of the human ceiling", "{:.1%}"),
}


class ScoreTable(L.Callback):
    """Print the scores of the last validation, with their standard errors.

    Args:
        attack: Name of the attack behind tolerance and adversarial alignment: other attacks give other scores.
    """

    def __init__(self, attack: str) -> None:
        self.attack = attack

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last epoch's scores."""
        self._show(
            trainer,
            "last epoch, ",
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print an evaluation's scores."""
        if trainer.state.fn == "validate":
            self._show(trainer, "")

    def _show(self, trainer: L.Trainer, when: str) -> None:
        scores = {name.removeprefix("val/"): float(value) for name, value in trainer.callback_metrics.items()}
        if not trainer.is_global_zero or "accuracy" not in scores:
            return
        source = ceiling_source(data_of(trainer).manifest.ceilings)
        caption = f"{when}attack {self.attack}; human ceiling: {source}"
        table = Table("score", "value", "standard error", caption=caption)
        for name, (title, style) in ROWS.items():
            if name in scores:
                error = scores.get(f"{name}_se")
                table.add_row(title, style.format(scores[name]), "" if error is None else style.format(error))
        Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


class PlainLines(ProgressBar):
    """Print a plain line an epoch, and one a minute: for log files, where a moving bar would leave thousands.

    Args:
        seconds: Between two lines inside an epoch.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._printed = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - not needed
        batch: Any,  # noqa: ANN401 - not needed
        batch_idx: int,
    ) -> None:
        """Print the step's losses when it is time."""
        now = time.monotonic()
        if trainer.is_global_zero and now - self._printed >= self.seconds:
            self._printed = now
            where = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._print(trainer, f"{where} step {batch_idx + 1}/{trainer.num_training_batches}", "")

    def disable(self) -> None:
        """Do nothing: Lightning asks for it on all processes but the first, which alone prints anyway."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's losses and scores."""
        if trainer.is_global_zero:
            self._printed = time.monotonic()
            self._print(trainer, f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", "_epoch")

    def _print(self, trainer: L.Trainer, where: str, suffix: str) -> None:
        values = trainer.callback_metrics
        names = [f"train/cross_entropy{suffix}", f"train/harmonizer_loss{suffix}"]
        names += ["val/accuracy", "val/accuracy_ema"] if suffix else []
        scores = [f"{name.removesuffix('_epoch')} {float(values[name]):.4f}" for name in names if name in values]
        sys.stdout.write(f"{where}: {', '.join(scores)}\n")
        sys.stdout.flush()


def progress() -> L.Callback:
    """Return a progress bar in a terminal, plain lines elsewhere."""
    return RichProgressBar() if sys.stdout.isatty() else PlainLines()
