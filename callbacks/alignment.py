"""Compare a model's saliency with human maps during validation."""

from typing import Any

import lightning as L

from callbacks.ceilings import image_ceilings
from callbacks.selection import Selection
from harmonizer.metrics import FeatureAlignment as FeatureAlignmentMetric
from harmonizer.models import evaluation_saliency
from harmonizer.module import HarmonizerModule


class FeatureAlignment(L.Callback):
    """Measure feature alignment; log it raw, as a share of the human ceiling, and as Dice and IoU.

    The ceiling is that of the measured images where the data's manifest has it, otherwise the published one.

    Args:
        images: How many of the first validation images; None takes all.
        every_n_epochs: In training; see :class:`callbacks.selection.Selection`.

    Attributes:
        rows: Per image, by key: its ``feature_alignment``.
    """

    def __init__(self, *, images: int | None = None, every_n_epochs: int = 1) -> None:
        self.selection = Selection(images, every_n_epochs)
        self.metric = FeatureAlignmentMetric()
        self.rows: dict[str, dict[str, Any]] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last validation."""
        if self.selection.start(trainer):
            self.rows = {}
        self.metric = self.metric.to(pl_module.device)
        self.metric.reset()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - the logits; not needed
        batch: Any,  # noqa: ANN401 - a Batch; Lightning types it so
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Differentiate the true-class logits and compare."""
        chosen = self.selection.take(trainer, batch)
        if chosen is None:
            return
        assert isinstance(pl_module, HarmonizerModule)
        saliency = evaluation_saliency(pl_module.model, chosen.images, chosen.labels)
        ceilings = image_ceilings(trainer, chosen.keys)
        self.metric.update(saliency, chosen.human, has_map=chosen.has_map, ceilings=ceilings, keys=chosen.keys)
        for key, score in zip(chosen.keys, self.metric.latest.tolist(), strict=True):
            self.rows[key] = {"feature_alignment": score}

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores; every process takes part."""
        if not self.selection.due:
            return
        scores = self.metric.compute()
        names = {"mean": "", "se": "_se", "ceiling": "_ceiling", "share_of_ceiling": "_of_ceiling"}
        names |= {"dice": "_dice", "iou": "_iou"}
        for score, suffix in names.items():
            pl_module.log(f"val/feature_alignment{suffix}", float(scores[score]), rank_zero_only=True)
