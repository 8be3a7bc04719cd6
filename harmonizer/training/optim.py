"""Optimiser, learning-rate schedule, and settings that rise during a warm-up."""

from typing import Any

from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn
from torch.optim import Optimizer

from harmonizer.training.settings import OptimSettings


def weight_decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into a group with weight decay and one without, as the published training does.

    Biases are decayed; normalisation layers, embeddings and class tokens are not (Fel et al. 2022).

    Args:
        model: Any module; names in timm's ``no_weight_decay`` count as embeddings and tokens.
        weight_decay: Weight decay of the first group.

    Returns:
        Two parameter groups for a torch optimiser.
    """
    exempt = undecayed(model)
    parameters = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    return [
        {"params": [value for name, value in parameters if name not in exempt], "weight_decay": weight_decay},
        {"params": [value for name, value in parameters if name in exempt], "weight_decay": 0.0},
    ]


def undecayed(model: nn.Module) -> set[str]:
    """Return the names of the parameters without weight decay; see :func:`weight_decay_groups`."""
    exempt: set[str] = set()
    for prefix, module in model.named_modules():
        path = f"{prefix}." if prefix else ""
        names: set[str] = getattr(module, "no_weight_decay", set)()
        exempt |= {path + name for name in names}
        if isinstance(module, nn.Embedding) or "norm" in type(module).__name__.lower():
            exempt |= {path + name for name, _ in module.named_parameters(recurse=False)}
    return exempt


def build_optimizer(backbone: nn.Module, settings: OptimSettings, *, lr: float) -> Optimizer:
    """Return the optimiser; ``layer_decay`` multiplies a layer's rate by that factor for each layer above it."""
    decay = settings.weight_decay
    groups: list[dict[str, Any]] = weight_decay_groups(backbone, decay)
    if settings.layer_decay is not None:
        groups = param_groups_layer_decay(
            backbone,
            decay,
            no_weight_decay_list=sorted(undecayed(backbone)),
            weight_decay_exclude_1d=False,
            layer_decay=settings.layer_decay,
        )
    optimizer: Optimizer = create_optimizer_v2(groups, opt=settings.optimizer, lr=lr, momentum=settings.momentum)
    return optimizer


def scaled_lr(lr: float, lr_batch: int | None, batch: int | None) -> float:
    """Return the learning rate by the linear scaling rule.

    Args:
        lr: Learning rate for ``lr_batch`` samples.
        lr_batch: Samples that ``lr`` is meant for; None returns ``lr``.
        batch: Samples of one optimiser step, over all processes and accumulated batches; None if unknown.

    Raises:
        ValueError: The batch is unknown.

    Reference:
        Goyal et al. 2017 (arXiv 1706.02677), section 2.1.

    >>> scaled_lr(5e-4, 256, 1024), scaled_lr(5e-4, None, 1024)
    (0.002, 0.0005)
    """
    if lr_batch is None:
        return lr
    if batch is None:
        raise ValueError(f"expected data with a known batch_size for lr_batch={lr_batch}; try lr_batch=null")
    return lr * batch / lr_batch


def batch_and_rate(batch: int | None, processes: int, accumulated: int, lr: float, lr_batch: int | None) -> str:
    """Describe the samples per optimiser step and the learning rate.

    >>> batch_and_rate(1024, 32, 1, 5e-4, 256)
    '1024 samples per step: 32 x 32 processes; learning rate 0.002, scaled from 0.0005 for 256 (lr_batch)'
    >>> batch_and_rate(64, 2, 2, 1e-3, None)
    '64 samples per step: 16 x 2 processes x 2 accumulated; learning rate 0.001, not scaled (lr_batch=null)'
    """
    own = "?" if batch is None else batch // (processes * accumulated)
    parts = f"{own} x {processes} process{'es' * (processes > 1)}" + f" x {accumulated} accumulated" * (accumulated > 1)
    scaled = "not scaled (lr_batch=null)" if lr_batch is None else f"scaled from {lr:g} for {lr_batch} (lr_batch)"
    return f"{batch or '?'} samples per step: {parts}; learning rate {scaled_lr(lr, lr_batch, batch):g}, {scaled}"


def check_epochs(epochs: object, schedule: str) -> int:
    """Return the number of epochs of a training, the length of its schedule.

    Raises:
        ValueError: It is not a whole number of at least 1; a constant schedule also allows -1, Lightning's value for
            trainings bounded by steps only.
    """
    unbounded = epochs == -1 and schedule == "constant"
    if isinstance(epochs, bool) or not isinstance(epochs, int) or (epochs < 1 and not unbounded):
        raise ValueError(
            f"expected a whole number of epochs, at least 1, got {epochs}; the schedule depends on it: change "
            "recipe.epochs, or Trainer(max_epochs=N)"
        )
    return max(epochs, 1)


def check_warmup(epochs: float, **warmups: float) -> None:
    """Raise a ValueError if a warm-up is longer than its part of the training."""
    for name, length in warmups.items():
        if 0 <= epochs < length:
            raise ValueError(
                f"expected {name} <= {epochs:g}, the training's epochs from its start, got {length:g}; "
                f"try recipe.{name}={epochs / 5:g}, or a larger recipe.epochs"
            )


def build_schedule(optimizer: Optimizer, settings: OptimSettings, *, epochs: int, updates_per_epoch: int) -> Any:  # noqa: ANN401 - timm has no types
    """Return the learning-rate schedule, which advances at each optimiser step."""
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=settings.schedule,
        num_epochs=settings.restart * epochs,  # type: ignore[arg-type]  # a fraction is fine
        cycle_limit=1 + (settings.restart < 1),
        cycle_mul=1 / settings.restart - 1 or 1.0,  # the second cycle's length in units of the first
        cycle_decay=settings.restart_rate,
        warmup_epochs=settings.warmup_epochs,  # type: ignore[arg-type]  # a fraction is fine
        warmup_lr=0.0,
        decay_epochs=settings.decay_epochs,
        decay_milestones=list(settings.milestones),
        decay_rate=settings.decay_rate,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler


def warmed_up(step: int, *, value: float, warmup_epochs: float = 0.0, updates_per_epoch: int = 1) -> float:
    """Return a value at an optimiser step: it rises linearly from 0 during its warm-up.

    Args:
        step: Optimiser steps since the value's start; 0 is returned before it.
        value: Value after the warm-up.
        warmup_epochs: Length of the warm-up; may be a fraction.
        updates_per_epoch: Optimiser steps per epoch.

    >>> [warmed_up(step, value=2.0, warmup_epochs=1, updates_per_epoch=4) for step in range(-1, 6)]
    [0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    """
    if step < 0:
        return 0.0
    warm = warmup_epochs * updates_per_epoch
    return value * min(1.0, step / warm) if warm > 0 else value
