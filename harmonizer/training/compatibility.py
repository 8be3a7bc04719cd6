"""Checks for trainer settings that cannot train a harmonized model correctly; each was tried, and has a test."""

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

PRECISIONS = ("32-true", "bf16-mixed", "64-true")


def check_compatible(
    trainer: L.Trainer, module: L.LightningModule, *, harmonize: bool, adversarial: bool = False
) -> None:
    """Check that a training will neither fail later nor give wrong results silently.

    Raises:
        ValueError: The combination is not supported; the message gives the reason and a remedy.
    """
    strategy = trainer.strategy
    if trainer.precision not in PRECISIONS:
        raise ValueError(
            f"expected trainer.precision of {', '.join(PRECISIONS)}, got {trainer.precision}; half-precision weights "
            "lose small updates, and the scaling of float16 hides gradients that are not finite: use bf16-mixed"
        )
    if isinstance(strategy, DDPStrategy) and strategy._ddp_kwargs.get("static_graph"):
        if trainer.accumulate_grad_batches > 1:
            raise ValueError(
                "static_graph does not work with accumulate_grad_batches > 1: torch's gradient reducer fails; "
                "remove static_graph"
            )
        if harmonize or adversarial:
            cause = "harmonize" if harmonize else "adversarial"
            raise ValueError(
                f"static_graph does not work with {cause}: with two backward passes the gradients between processes "
                "are silently wrong; remove static_graph"
            )
    if adversarial and not harmonize and isinstance(strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
        raise ValueError(
            f"{type(strategy).__name__} does not work with adversarial: the attack's backward passes come before the "
            "loss's, and sharding frees the weights after each; use trainer=ddp"
        )
    if not harmonize:
        return
    if isinstance(strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
        raise ValueError(
            f"{type(strategy).__name__} does not work with harmonize: the second derivatives need weights that "
            "sharding frees after the first backward pass; use trainer=ddp, and to save memory "
            "checkpoint_gradients=true, trainer.precision=bf16-mixed or smaller batches with "
            "trainer.accumulate_grad_batches"
        )
    if any(isinstance(part, nn.SyncBatchNorm) for part in module.modules()):
        raise ValueError(
            "sync_batchnorm does not work with harmonize: SyncBatchNorm has no second derivative; remove "
            "trainer.sync_batchnorm (each process then has its own statistics), or choose a model without BatchNorm"
        )
    parts = list(module.modules())
    compiled = any(isinstance(part, torch._dynamo.eval_frame.OptimizedModule) for part in parts)
    compiled = compiled or any(getattr(part, "_compiled_call_impl", None) is not None for part in parts)
    if compiled or module._compiler_ctx is not None:
        raise ValueError(
            "torch.compile does not work with harmonize: compiled code has no second derivative; train without it "
            "(evaluation may compile)"
        )
