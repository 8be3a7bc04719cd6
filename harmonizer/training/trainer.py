"""The trainer, on a device that supports the arithmetic of training and evaluation."""

import logging
import warnings
from typing import Any

import lightning as L
from lightning.pytorch.accelerators import MPSAccelerator

log = logging.getLogger(__name__)

LACK = "Apple's GPUs lack float64, which radii and correlations need"


def build_trainer(*, accelerator: str = "auto", **settings: Any) -> L.Trainer:  # noqa: ANN401 - Lightning's own
    """Return a Lightning trainer, on a CPU instead of Apple's GPU.

    Args:
        accelerator: As in ``lightning.Trainer``, but ``"auto"`` takes the CPU where Lightning would take Apple's GPU.
        **settings: Other arguments of ``lightning.Trainer``.

    Raises:
        ValueError: Apple's GPU was requested.
    """
    if accelerator == "auto" and MPSAccelerator.is_available():
        log.warning("running on the CPU: %s", LACK)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "GPU available but not used")  # raised by Lightning
            return L.Trainer(accelerator="cpu", **settings)
    if accelerator == "mps" or (accelerator == "gpu" and MPSAccelerator.is_available()):
        raise ValueError(f"trainer.accelerator={accelerator} cannot be used: {LACK}; use trainer.accelerator=cpu")
    return L.Trainer(accelerator=accelerator, **settings)
