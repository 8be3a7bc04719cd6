"""How many samples an optimiser step has, and how many steps an epoch."""

import math

import lightning as L

from harmonizer.data.datamodule import ShardData


def step_batch(trainer: L.Trainer) -> int | None:
    """Return the samples of one optimiser step, over all processes; None where the data do not say."""
    batch = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    return None if batch is None else batch * trainer.world_size * trainer.accumulate_grad_batches


def updates_per_epoch(trainer: L.Trainer) -> int:
    """Count an epoch's optimiser steps, from the manifest.

    Lightning's own estimate would start the training loader before a checkpoint can tell it where to go on.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, ShardData):
        return max(1, int(trainer.estimated_stepping_batches) // (trainer.max_epochs or 1))
    return math.ceil(data.train_batches() / trainer.accumulate_grad_batches)
