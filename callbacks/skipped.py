"""Log the number of skipped damaged samples."""

import lightning as L

from harmonizer.data.datamodule import ShardData
from harmonizer.data.loader import TrainLoader


class SkippedSamples(L.Callback):
    """Log the number of samples skipped in an epoch, over all processes, if the data have ``on_error: skip``.

    Logs ``train/skipped_samples`` and ``val/skipped_samples``.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the training samples."""
        loader = trainer.train_dataloader
        if _skips(trainer) and isinstance(loader, TrainLoader):
            _log(pl_module, "train/skipped_samples", loader.skipped)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation samples."""
        if _skips(trainer) and not trainer.sanity_checking:
            data = trainer.datamodule  # type: ignore[attr-defined]
            _log(pl_module, "val/skipped_samples", data.skipped)


def _skips(trainer: L.Trainer) -> bool:
    """Return whether the trainer's data skip damaged samples."""
    data = getattr(trainer, "datamodule", None)
    return isinstance(data, ShardData) and data.on_error == "skip"


def _log(module: L.LightningModule, name: str, count: int) -> None:
    """Log the sum of counts over processes."""
    module.log(name, float(count), on_step=False, on_epoch=True, sync_dist=True, reduce_fx="sum")
