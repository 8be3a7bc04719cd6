"""The LightningModule: cross-entropy plus the harmonizer loss, any timm model, optimiser and schedule by name."""

import math
from collections.abc import Sequence

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from harmonizer.data.batch import Batch
from harmonizer.data.datamodule import ShardData
from harmonizer.data.sampling import sample_seed
from harmonizer.functional import check_loss_settings, harmonizer_loss, input_saliency
from harmonizer.functional.loss import ScaleMatch
from harmonizer.functional.maps import Deviation, Reduction, check_reduction
from harmonizer.models import build_model, weight_decay_groups

SCHEDULES = ("constant", "cosine", "multistep", "poly", "step", "tanh")


class HarmonizerModule(L.LightningModule):
    """Train and validate one timm model.

    The control (``harmonize=False``) is a plain training: no saliency is computed. All arguments are scalars, strings
    or lists of them: they are the checkpoint's hyper-parameters, and with its weights all that it takes to rebuild
    the model.

    Args:
        model: timm name.
        classes: Class names; their number is the size of the head.
        image_size: Input height and width in pixels.
        harmonize: Add the harmonizer loss.
        harmonizer_weight: Its factor lambda.
        levels: Its pyramid levels.
        level_metric: Error of a level; see :func:`harmonizer.functional.harmonizer_loss`, as for the next three.
        scale_match: How the human map gets the saliency's scale.
        std: Of the standardisation of both maps.
        top_k: Share of the saliency's pixels that are compared, the largest ones.
        saliency_reduction: Over the channels; see :func:`harmonizer.functional.input_saliency`.
        label_smoothing: Of the cross-entropy.
        optimizer: timm optimiser name, for example ``adamw`` or ``sgd`` (with Nesterov momentum).
        lr: Learning rate after warm-up.
        weight_decay: Of weights and biases, not of normalisation layers, embeddings and tokens.
        momentum: Of SGD.
        schedule: timm schedule name.
        warmup_epochs: Linear warm-up from 0; may be a fraction.
        decay_epochs: Epochs after which a ``step`` schedule decays, again and again.
        milestones: Epochs at which a ``multistep`` schedule decays.
        decay_rate: Factor of a ``step`` or ``multistep`` schedule.
        pretrained: Start from timm's weights.
        seed: Of dropout and the like; each step has its own, so that a resumed run draws the same numbers.

    Raises:
        ValueError: An argument is out of range or unknown to timm.

    Reference:
        Fel et al. 2022 (arXiv 2211.04533), equation 2.
    """

    def __init__(
        self,
        model: str,
        classes: Sequence[str],
        image_size: int,
        *,
        harmonize: bool = False,
        harmonizer_weight: float = 1.0,
        levels: int = 5,
        level_metric: str = "mse",
        scale_match: ScaleMatch = "released",
        std: Deviation = "population",
        top_k: float = 1.0,
        saliency_reduction: Reduction = "mean",
        label_smoothing: float = 0.1,
        optimizer: str = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        momentum: float = 0.9,
        schedule: str = "cosine",
        warmup_epochs: float = 0.0,
        decay_epochs: float = 30.0,
        milestones: Sequence[int] = (),
        decay_rate: float = 0.1,
        pretrained: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        classes, milestones = [str(name) for name in classes], [int(epoch) for epoch in milestones]
        self.save_hyperparameters()
        self.hparams.update(classes=classes, milestones=milestones)
        if harmonizer_weight < 0 or lr <= 0 or weight_decay < 0 or warmup_epochs < 0 or not 0 <= label_smoothing < 1:
            raise ValueError(
                "expected harmonizer_weight, weight_decay and warmup_epochs >= 0, lr > 0 and label_smoothing in [0,1), "
                f"got {harmonizer_weight}, {weight_decay}, {warmup_epochs}, {lr} and {label_smoothing}"
            )
        check_loss_settings(metric=level_metric, scale_match=scale_match, std=std, top_k=top_k)
        check_reduction(saliency_reduction)
        if optimizer not in list_optimizers():
            raise ValueError(f"timm has no optimizer {optimizer!r}; try adamw or sgd")
        if schedule not in SCHEDULES:
            raise ValueError(f"expected a schedule of {', '.join(SCHEDULES)}, got {schedule!r}")
        self.model = build_model(
            model,
            num_classes=len(classes),
            image_size=image_size,
            pretrained=pretrained,
            second_order=harmonize,
        )
        self.accuracy = MulticlassAccuracy(num_classes=len(classes), average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B,3,H,W) in [0,1] to logits (B,K)."""
        logits: Tensor = self.model(images)
        return logits

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and the like by (seed, step, rank)."""
        torch.manual_seed(sample_seed(self.hparams["seed"], self.global_step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        settings = self.hparams
        # Without any map the harmonizer loss and its gradient are exactly zero. The contrastive loss compares the
        # batches of all processes, and all must take part.
        together = settings["level_metric"] == "contrastive"
        harmonize = settings["harmonize"] and (together or bool(batch.has_map.any()))
        images = batch.images.requires_grad_(harmonize)
        logits = self.model(images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=settings["label_smoothing"])
        self._log("train/cross_entropy", loss, len(images))
        if harmonize:
            reduction = settings["saliency_reduction"]
            saliency = input_saliency(logits, images, batch.labels, reduction=reduction, create_graph=True)
            chosen = {name: settings[name] for name in ("levels", "scale_match", "std", "top_k")}
            agreement = harmonizer_loss(saliency, batch.human, batch.has_map, metric=settings["level_metric"], **chosen)
            self._log("train/harmonizer_loss", agreement, len(images))
            loss = loss + settings["harmonizer_weight"] * agreement
        self._log("train/loss", loss, len(images))
        if not torch.isfinite(loss):
            raise ArithmeticError(
                f"the loss is {float(loss.detach())} at step {self.global_step} "
                f"(samples {', '.join(batch.keys[:4])}, ...); lower recipe.lr or recipe.harmonizer_weight"
            )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the logits (B,K) of one batch, for the callbacks."""
        logits: Tensor = self.model(batch.images)
        self.accuracy.update(logits, batch.labels)
        return logits

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy over all processes."""
        self.log("val/accuracy", self.accuracy.compute(), prog_bar=True)
        self.accuracy.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build optimiser and schedule; the schedule advances every step."""
        settings = self.hparams
        optimizer = create_optimizer_v2(
            weight_decay_groups(self.model.backbone, settings["weight_decay"]),
            opt=settings["optimizer"],
            lr=settings["lr"],
            momentum=settings["momentum"],
        )
        epochs = self.trainer.max_epochs or 1
        scheduler, _ = create_scheduler_v2(
            optimizer,
            sched=settings["schedule"],
            num_epochs=epochs,
            warmup_epochs=settings["warmup_epochs"],
            warmup_lr=0.0,
            decay_epochs=settings["decay_epochs"],
            decay_milestones=settings["milestones"],
            decay_rate=settings["decay_rate"],
            step_on_epochs=False,
            updates_per_epoch=self._updates_per_epoch(),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}

    def lr_scheduler_step(self, scheduler: Scheduler, metric: object) -> None:  # type: ignore[override]
        """Advance timm's schedule, which counts the updates itself."""
        scheduler.step_update(self.global_step)

    def _updates_per_epoch(self) -> int:
        """Count an epoch's optimiser steps, from the manifest.

        Lightning's own estimate would start the training loader before a checkpoint can tell it where to go on.
        """
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ShardData):
            return max(1, int(self.trainer.estimated_stepping_batches) // (self.trainer.max_epochs or 1))
        return math.ceil(data.train_batches() / self.trainer.accumulate_grad_batches)

    def _log(self, name: str, value: Tensor, batch_size: int) -> None:
        """Log a training value per step and as the epoch's mean."""
        self.log(name, value.detach(), on_step=True, on_epoch=True, batch_size=batch_size, prog_bar=True)
