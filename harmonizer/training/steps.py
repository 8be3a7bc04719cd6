"""Numbers of samples and passes per optimiser step, and of steps per epoch."""

import math

import lightning as L

from harmonizer.data.datamodule import ShardData
from harmonizer.training.settings import LossSettings


def step_batch(trainer: L.Trainer) -> int | None:
    """Return the number of samples per optimiser step, over all processes; None if the data have no batch size."""
    batch = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    return None if batch is None else batch * trainer.world_size * trainer.accumulate_grad_batches


def updates_per_epoch(trainer: L.Trainer) -> int:
    """Return the optimiser steps per epoch, from the manifest.

    Lightning's own estimate would start the training loader before a checkpoint can restore its position.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, ShardData):
        return max(1, int(trainer.estimated_stepping_batches) // (trainer.max_epochs or 1))
    return math.ceil(data.train_batches() / trainer.accumulate_grad_batches)


def step_passes(settings: LossSettings, *, harmonize: bool) -> int:
    """Return the cost of a training step per image with a human map, in forward passes.

    A forward pass counts 1, the gradient of the image 1, that of the parameters 2, and that of the parameters through
    the gradient of the image 4. A plain step costs 3, a harmonized step 6, PGD with 3 steps 9. Supervisions without
    maps have this cost for every image.

    >>> plain, pgd = LossSettings(), LossSettings(adversarial="pgd")
    >>> [step_passes(settings, harmonize=harmonize) for settings in (plain, pgd) for harmonize in (False, True)]
    [3, 6, 9, 12]
    """
    attacked, trades = settings.adversarial != "none", settings.adversarial == "trades"
    passes = 3 + attacked * 2 * settings.attack_steps + 3 * trades
    if not harmonize or settings.supervision == "cyborg":  # its map comes from the forward pass
        return passes
    if settings.supervision == "sgt":  # the gradient, and the passes of the masked images
        return passes + 4
    if not attacked or trades or settings.saliency_at == "adversarial":
        return passes + 3  # the loss has a forward pass at the images of the saliency
    shared = 0 if settings.adversarial == "fast" else 2 if settings.saliency_of == "log_odds" else 1
    return passes + 6 - shared
