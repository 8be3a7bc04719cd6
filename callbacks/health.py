"""The gradient-health card of an evaluation: does the model only seem robust?"""

import sys
from typing import Any

import lightning as L

from harmonizer.attacks.health import gradient_health
from harmonizer.data.batch import Batch
from harmonizer.module import HarmonizerModule


class Health(L.Callback):
    """Examine the model's gradients on a few images, once an evaluation, in the first process.

    Args:
        images: Correctly classified images to look at, of the first validation batch; each costs some 400 passes.
            0 leaves the card out.

    Attributes:
        card: What :func:`harmonizer.attacks.health.gradient_health` found, as plain values; None before that. One
            that was put here beforehand, of an interrupted evaluation, stays.
    """

    def __init__(self, *, images: int = 8) -> None:
        if images < 0:
            raise ValueError(f"expected health.images >= 0, got {images}")
        self.images = images
        self.card: dict[str, Any] | None = None

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401 - the logits; not needed
        batch: Any,  # noqa: ANN401 - a Batch; Lightning types it so
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Examine the first batch."""
        if batch_idx or self.card is not None or not self.images or not trainer.is_global_zero:
            return
        assert isinstance(batch, Batch)
        assert isinstance(pl_module, HarmonizerModule)
        card = gradient_health(pl_module.model, batch.images, batch.labels, limit=self.images)
        self.card = card.as_dict()
        if card.masked:
            sys.stderr.write(
                f"warning: this model looks masked, its tolerance may be overestimated: {'; '.join(card.reasons)}\n"
            )
