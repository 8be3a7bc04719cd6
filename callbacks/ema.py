"""A moving average of the weights, evaluated next to the weights themselves."""

from typing import Any

import lightning as L
from timm.utils import ModelEmaV3

from harmonizer.data.batch import Batch
from harmonizer.evaluation.checkpoint import EMA
from harmonizer.metrics import Accuracy
from harmonizer.training.module import HarmonizerModule


class WeightAverage(L.Callback):
    """Keep an exponential moving average of the model (timm's ModelEmaV3), log its accuracy and save it.

    Parameters and BatchNorm's running statistics are averaged after each optimiser step. Checkpoints hold the average
    next to the weights; ``evaluate.py ckpt=... ema=true`` measures it and ``harmonizer.export`` writes it.

    Args:
        decay: Weight of the old average in each step, in (0,1); None keeps no average.
        warmup: Start with smaller decays, so that a short run's average does not depend on its initial weights.

    Raises:
        ValueError: ``decay`` is out of range.
    """

    def __init__(self, decay: float | None = None, *, warmup: bool = True) -> None:
        if decay is not None and not 0 < decay < 1:
            raise ValueError(f"expected ema in (0,1), or null for no average, got {decay}")
        self.decay = decay
        self.warmup = warmup
        self.average: ModelEmaV3 | None = None
        self._accuracy: Accuracy | None = None
        self._step = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start from the run's initial weights."""
        assert isinstance(pl_module, HarmonizerModule)
        if stage == "fit" and self.decay is not None:
            self.average = ModelEmaV3(pl_module.model, decay=self.decay, use_warmup=self.warmup)
            self.average.requires_grad_(False)
            self._accuracy = Accuracy(len(pl_module.hparams["classes"]))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move to the model's device."""
        if self.average is not None and self._accuracy is not None:
            self.average.to(pl_module.device)
            self._accuracy = self._accuracy.to(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Update the average once per optimiser step."""
        assert isinstance(pl_module, HarmonizerModule)
        if self.average is not None and trainer.global_step > self._step:
            self.average.update(pl_module.model, step=trainer.global_step)
            self._step = trainer.global_step

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, *_: object
    ) -> None:
        """Update the average's accuracy."""
        if self.average is not None and self._accuracy is not None:
            self._accuracy.update(self.average(batch.images), batch.labels)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the accuracy over all processes."""
        if self._accuracy is not None:
            pl_module.log("val/accuracy_ema", float(self._accuracy.compute()), rank_zero_only=True)
            self._accuracy.reset()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average, with the names of the module's state."""
        if self.average is not None:
            checkpoint[EMA] = {f"model.{name}": value for name, value in self.average.module.state_dict().items()}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the average.

        Raises:
            ValueError: The checkpoint holds no average.
        """
        if self.average is None:
            return
        if EMA not in checkpoint:
            raise ValueError("the checkpoint holds no averaged weights; continue without ema, or add overwrite=true")
        state = {name.removeprefix("model."): value for name, value in checkpoint[EMA].items()}
        self.average.module.load_state_dict(state)
        self._step = checkpoint["global_step"]
