"""Stop the run or skip the step if a loss or gradient is not finite."""

from pathlib import Path
from typing import Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harmonizer.data.batch import Batch
from harmonizer.run import LAST
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.training.module import HarmonizerModule

NAMED = 4  # number of sample keys in a message


class FiniteGuard(L.Callback):
    """Check loss and gradients before each optimiser step, with one decision for all processes.

    Also measures the gradient norm for the log, before any clipping.

    Args:
        folder: Run folder, whose last checkpoint a message names.
        nonfinite: ``"stop"`` ends the run and names the step, the samples and the last checkpoint; ``"skip"`` keeps the
            weights and running statistics, counts the step and continues with the next batch.

    Attributes:
        skipped: Number of skipped steps, logged as ``train/skipped_steps``.

    Raises:
        ValueError: ``nonfinite`` has another value.
    """

    def __init__(self, folder: str | Path, nonfinite: Literal["stop", "skip"] = "stop") -> None:
        if nonfinite not in ("stop", "skip"):
            raise ValueError(f"expected nonfinite of stop or skip, got {nonfinite!r}")
        self.last = Path(folder) / LAST
        self.nonfinite = nonfinite
        self.skipped = 0
        self._keys: list[str] = []
        self._finite = True
        self._statistics: dict[str, Tensor] = {}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Store the samples of this optimiser step, and the running statistics in case it is skipped."""
        if not self._keys and self.nonfinite == "skip":
            self._statistics = {name: value.clone() for name, value in pl_module.named_buffers()}
        self._keys += batch.keys

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Check the loss."""
        self._finite &= bool(torch.isfinite(loss.detach()).all())

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Check the gradients; stop or skip if they are not finite."""
        assert isinstance(pl_module, HarmonizerModule)
        norm = gradient_norm(pl_module)
        pl_module.measured["gradient_norm"] = norm
        loss_finite, keys = self._finite, self._keys
        self._finite, self._keys = True, []
        finite = loss_finite and bool(torch.isfinite(norm))
        if trainer.world_size > 1:
            finite = trainer.strategy.reduce_boolean_decision(finite, all=True)
        if finite:
            return
        if self.nonfinite == "stop":
            loss = float(pl_module.measured["loss"])
            what = f"the loss is {loss}" if not loss_finite else f"the gradient norm is {float(norm)} (loss {loss})"
            raise ArithmeticError(
                f"{what} at step {trainer.global_step} (samples {', '.join(keys[:NAMED])}, ...); "
                f"{self._last_good()}; lower recipe.lr or "
                "recipe.harmonizer_weight, or skip such batches with nonfinite=skip"
            )
        self.skipped += 1
        optimizer.zero_grad(set_to_none=True)  # optimisers do not update parameters without a gradient
        for name, value in pl_module.named_buffers():
            value.copy_(self._statistics[name])

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Add the count to the log."""
        assert isinstance(pl_module, HarmonizerModule)
        if self.nonfinite == "skip":
            pl_module.measured["skipped_steps"] = torch.tensor(float(self.skipped))

    def _last_good(self) -> str:
        """Return a message that names the last checkpoint."""
        if not self.last.exists():
            return "there is no checkpoint yet"
        try:
            step = read_checkpoint(self.last, mmap=True)["global_step"]
        except ValueError as error:
            return str(error)
        return f"the last good checkpoint is {self.last}, step {step}"

    def state_dict(self) -> dict[str, int]:
        """Return the count, for a checkpoint."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the count."""
        self.skipped = state_dict["skipped"]


def gradient_norm(module: nn.Module) -> Tensor:
    """Return the L2 norm () of all gradients; 0 if there are none.

    >>> layer = nn.Linear(1, 1)
    >>> (layer(torch.ones(1, 1)) * 3).sum().backward()
    >>> round(float(gradient_norm(layer)), 4)
    4.2426
    """
    gradients = [value.grad for value in module.parameters() if value.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return norm
