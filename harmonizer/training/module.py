"""The LightningModule: cross-entropy plus the harmonizer loss, any timm model, optimiser and schedule by name."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from timm.scheduler.scheduler import Scheduler
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from harmonizer.attacks.noise import Noise
from harmonizer.cli.console import print_rank_zero
from harmonizer.data.batch import Batch
from harmonizer.data.class_names import check_imagenet_order, imagenet_classes
from harmonizer.data.sampling import sample_seed
from harmonizer.functional.pyramid import check_levels
from harmonizer.metrics import Accuracy
from harmonizer.models import Architecture, build_model, resolve
from harmonizer.models.activation_map import check_activation_map
from harmonizer.models.head_classes import check_head_classes
from harmonizer.training.compatibility import check_compatible
from harmonizer.training.double_backward import has_batch_statistics
from harmonizer.training.losses import batch_losses
from harmonizer.training.optim import (
    batch_and_rate,
    build_optimizer,
    build_schedule,
    check_epochs,
    check_warmup,
    scaled_lr,
    warmed_up,
)
from harmonizer.training.settings import LossSettings, OptimSettings, split_settings
from harmonizer.training.steps import step_batch, updates_per_epoch
from harmonizer.training.supervision import mean_images


class HarmonizerModule(L.LightningModule):
    """Train and validate one timm model.

    The control (``harmonize=False``) is a plain training without saliency. All arguments are scalars, strings or lists
    of them: they are the checkpoint's hyper-parameters, which together with its weights suffice to rebuild the model.

    Args:
        model: Model name; see :mod:`harmonizer.models.sources`.
        classes: Class names; their number is the size of the head.
        image_size: Input height and width in pixels.
        harmonize: Add the harmonizer loss.
        checkpoint_gradients: Recompute activations in the backward pass to save memory.
        pretrained: Start from timm's weights, including the head where the number of classes is the same; ImageNet's
            classes must then be in timm's order.
        weights: Start from the weights in this file; see :func:`harmonizer.models.weights.read_weights`.
        model_args: Arguments of the architecture, such as ``drop_path_rate``; see :mod:`harmonizer.models.model_args`.
        input_mean: Mean of the normalisation, per channel; None takes the model's own, as for ``input_std``.
        input_std: Standard deviation of the normalisation, per channel.
        architecture: Architecture that ``model`` names, or named when it was trained; None looks the name up.
        seed: Seed of dropout and the like; each batch has its own, so that a resumed run draws the same numbers.
        **settings: Fields of :class:`LossSettings` and :class:`OptimSettings`, side by side as in a recipe.

    Attributes:
        loss_settings: Settings of the loss.
        optim_settings: Settings of optimiser and schedule.
        class_means: (K,3,H,W) mean training image of each class, with ``supervision="pag"`` during training.
        measured: Values () of the last training batch, for the log.

    Raises:
        ValueError: An argument is out of range or unknown to timm, or timm's head would get classes in another order.

    Reference:
        Fel et al. 2022 (arXiv 2211.04533), equation 2.
    """

    loss_settings: LossSettings
    optim_settings: OptimSettings

    def __init__(
        self,
        model: str,
        classes: Sequence[str],
        image_size: int,
        *,
        harmonize: bool = False,
        checkpoint_gradients: bool = False,
        pretrained: bool = False,
        weights: str | None = None,
        model_args: Mapping[str, Any] | None = None,
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
        architecture: Mapping[str, Any] | Architecture | None = None,
        seed: int = 0,
        **settings: Any,  # noqa: ANN401 - each of its own kind
    ) -> None:
        super().__init__()
        for name, value in {"harmonize": harmonize, "pretrained": pretrained}.items():
            if not isinstance(value, bool):
                raise TypeError(f"expected {name} true or false, got {value!r}")
        self.loss_settings, self.optim_settings = split_settings(settings)
        classes, model_args = [str(name) for name in classes], dict(model_args or {})
        input_mean, input_std = (
            None if given is None else list(map(float, given)) for given in (input_mean, input_std)
        )
        self.save_hyperparameters(ignore=[*settings])
        plain = {"classes": classes, "model_args": model_args, "input_mean": input_mean, "input_std": input_std}
        self.hparams.update(plain, **asdict(self.loss_settings), **asdict(self.optim_settings))
        if pretrained and len(classes) == resolve(model).num_classes == len(imagenet_classes()):  # timm's head is kept
            doubt = check_imagenet_order(classes)
            if doubt is not None:
                print_rank_zero(f"{model}: {doubt}")
        if weights is not None:
            check_head_classes(weights, classes)
        self.model = build_model(
            Architecture.of(architecture, "architecture")
            if isinstance(architecture, Mapping)
            else architecture or model,
            num_classes=len(classes),
            image_size=image_size,
            pretrained=pretrained,
            weights=weights,
            second_order=harmonize,
            checkpoint_gradients=checkpoint_gradients,
            mean=input_mean,
            std=input_std,
            model_args=model_args,
        )
        built = self.model.architecture
        assert built is not None
        # Recorded for a model from a folder or a hub, which may not be available later.
        self.hparams.update(architecture=built.plain() if built.shown != model else None)
        joined = self.loss_settings.saliency_batch
        self.joint = joined == "joint" or (joined == "auto" and has_batch_statistics(self.model))
        self.class_means: Tensor | None = None
        if harmonize and self.loss_settings.supervision == "cyborg":
            check_activation_map(self.model, image_size)
        self.measured: dict[str, Tensor] = {}
        self.accuracy = Accuracy(len(classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B,3,H,W) in [0,1] to logits (B,K)."""
        logits: Tensor = self.model(images)
        return logits

    def check_trainer(self, trainer: L.Trainer) -> None:
        """Check before a fit that this trainer can train with these settings.

        Raises:
            ValueError: A warm-up or a start does not fit the number of epochs, the pyramid has too many levels, or
                gradients would be clipped at 0 or below; see also
                :func:`harmonizer.training.compatibility.check_compatible` and
                :func:`harmonizer.training.optim.check_epochs`.
        """
        loss, optim = self.loss_settings, self.optim_settings
        check_epochs(trainer.max_epochs, optim.schedule)
        epochs = trainer.max_epochs or -1
        check_warmup(epochs * optim.restart, warmup_epochs=optim.warmup_epochs)
        check_warmup(epochs * (1 - loss.harmonizer_start), harmonizer_warmup_epochs=loss.harmonizer_warmup_epochs)
        check_warmup(epochs * (1 - loss.adversarial_start), adversarial_warmup_epochs=loss.adversarial_warmup_epochs)
        for name in ("adversarial_start", "harmonizer_start"):
            if getattr(loss, name) and (trainer.max_epochs or -1) < 0:
                raise ValueError(f"expected a number of epochs with {name}, got no bound; try recipe.epochs=6")
        if self.hparams["harmonize"] and loss.supervision == "harmonizer":
            check_levels(loss.levels, self.hparams["image_size"])
        clip = trainer.gradient_clip_val
        if clip is not None and not clip > 0:  # Lightning would silently not clip
            raise ValueError(f"expected gradient_clip above 0, or null for none, got {clip}")
        self._check_compatible(trainer)

    def on_fit_start(self) -> None:
        """Check the trainer; print batch and learning rate where they are products of several numbers."""
        self._check_compatible(self.trainer)
        if self.hparams["harmonize"] and self.loss_settings.supervision == "pag":
            print_rank_zero("supervision=pag: computing the mean training image of each class")
            batches = self.trainer.datamodule.probe_dataloader(sys.maxsize)  # type: ignore[attr-defined]
            self.class_means = mean_images(batches, len(self.hparams["classes"])).to(self.device)
        world, steps, batch = self.trainer.world_size, self.trainer.accumulate_grad_batches, step_batch(self.trainer)
        lr, lr_batch = self.optim_settings.lr, self.optim_settings.lr_batch
        if world > 1 or steps > 1 or lr_batch is not None:
            print_rank_zero(batch_and_rate(batch, world, steps, lr, lr_batch))

    def _check_compatible(self, trainer: L.Trainer) -> None:
        attacked = self.loss_settings.adversarial != "none"
        check_compatible(trainer, self, harmonize=self.hparams["harmonize"], adversarial=attacked)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and the like by (seed, batch, rank)."""
        number = self.trainer.fit_loop.epoch_loop.total_batch_idx  # over all epochs; restored from a checkpoint
        torch.manual_seed(sample_seed(self.hparams["seed"], number, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch.

        Raises:
            ValueError: The batch is a single image, for which batch normalisation has no statistics.
        """
        try:
            return self._loss(batch)
        except ValueError as error:
            if len(batch.labels) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"expected at least 2 images in each batch for the batch normalisation of {self.hparams['model']}, "
                f"got {batch.keys[0]} alone; try recipe.batch_size=2 or more"
            ) from None

    def _loss(self, batch: Batch) -> Tensor:
        """Return the loss of one batch."""
        settings = self.loss_settings
        # Seeded by step and sample: the same on any number of processes, and when a run resumes.
        noise = Noise(batch.images, batch.keys, sample_seed(self.hparams["seed"], self.global_step, 0))
        losses = batch_losses(
            self.model,
            batch,
            settings,
            factor=self._factor(),
            eps=self._eps(),
            joint=self.joint,
            noise=noise,
            class_means=self.class_means,
        )
        self.measured = {name: value.detach() for name, value in losses.items()}
        for name, value in self.measured.items():
            self.log(f"train/{name}", value, logger=False, prog_bar=True, batch_size=len(batch.labels))
        return losses["loss"]

    def _factor(self) -> float:
        """Return lambda at this step."""
        settings = self.loss_settings
        if not self.hparams["harmonize"] or self.global_step % settings.harmonize_every:
            return 0.0
        return self._risen(settings.harmonizer_weight, settings.harmonizer_start, settings.harmonizer_warmup_epochs)

    def _eps(self) -> float:
        """Return the radius of the attack at this step."""
        settings = self.loss_settings
        return self._risen(settings.adversarial_eps, settings.adversarial_start, settings.adversarial_warmup_epochs)

    def _risen(self, value: float, start: float, warmup_epochs: float) -> float:
        """Return a value at this step: 0 in the first share ``start`` of the training, then rising."""
        updates = updates_per_epoch(self.trainer) if start or warmup_epochs else 1
        first = round(start * updates * (self.trainer.max_epochs or 0)) if start else 0
        return warmed_up(self.global_step - first, value=value, warmup_epochs=warmup_epochs, updates_per_epoch=updates)

    def on_validation_start(self) -> None:
        """Broadcast the running statistics of the first process.

        DDP does so in the first forward pass of a validation, and would wait forever for a process without samples.
        """
        model = self.trainer.model
        if isinstance(model, DistributedDataParallel) and model.will_sync_module_buffers():
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)
            model.require_forward_param_sync = False

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
        settings = self.optim_settings
        lr = scaled_lr(settings.lr, settings.lr_batch, step_batch(self.trainer))
        optimizer = build_optimizer(self.model.backbone, settings, lr=lr)
        epochs = check_epochs(self.trainer.max_epochs, settings.schedule)
        per_epoch = updates_per_epoch(self.trainer)
        scheduler = build_schedule(optimizer, settings, epochs=epochs, updates_per_epoch=per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"}}

    def lr_scheduler_step(self, scheduler: Scheduler, metric: object) -> None:  # type: ignore[override]
        """Advance timm's schedule, which counts the updates itself."""
        scheduler.step_update(self.global_step)
