"""What cannot train a harmonized model rightly, refused with the reason. Each limit was tried; a test holds each."""

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

PRECISIONS = ("32-true", "bf16-mixed", "64-true")


def check_compatible(
    trainer: L.Trainer, module: L.LightningModule, *, harmonize: bool, adversarial: bool = False
) -> None:
    """Raise where a training would fail later, or go on and be wrong.

    Raises:
        ValueError: The combination is not supported; the message says why and what to do.
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
                "static_graph does not go with accumulate_grad_batches > 1: torch's gradient reducer fails inside; "
                "leave static_graph out"
            )
        if harmonize or adversarial:
            cause = "harmonize" if harmonize else "adversarial"
            raise ValueError(
                f"static_graph does not go with {cause}: with two backward passes it leaves the processes' gradients "
                "wrong, without a word; leave static_graph out"
            )
    if adversarial and not harmonize and isinstance(strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
        raise ValueError(
            f"{type(strategy).__name__} does not go with adversarial: the attack differentiates before the loss's own "
            "backward pass, with weights that sharding frees after each; use trainer=ddp"
        )
    if not harmonize:
        return
    if isinstance(strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
        raise ValueError(
            f"{type(strategy).__name__} does not go with harmonize: the second derivatives need weights that sharding "
            "has freed after the first backward pass; use trainer=ddp, and for memory checkpoint_gradients=true, "
            "trainer.precision=bf16-mixed or smaller batches with trainer.accumulate_grad_batches"
        )
    if any(isinstance(part, nn.SyncBatchNorm) for part in module.modules()):
        raise ValueError(
            "sync_batchnorm does not go with harmonize: SyncBatchNorm has no second derivative; leave "
            "trainer.sync_batchnorm out (statistics are then each process's own), or choose a model without BatchNorm"
        )
    parts = list(module.modules())
    compiled = any(isinstance(part, torch._dynamo.eval_frame.OptimizedModule) for part in parts)
    compiled = compiled or any(getattr(part, "_compiled_call_impl", None) is not None for part in parts)
    if compiled or module._compiler_ctx is not None:
        raise ValueError(
            "torch.compile does not go with harmonize: compiled code has no second derivative; train without it "
            "(evaluation may compile)"
        )
