"""The device that training and evaluation run on."""

import logging
import warnings
from typing import Any

import lightning as L
from lightning.pytorch.accelerators import MPSAccelerator

log = logging.getLogger(__name__)

LACK = "Apple's GPUs have no float64, in which radii and correlations are computed"


def build_trainer(*, accelerator: str = "auto", **settings: Any) -> L.Trainer:  # noqa: ANN401 - Lightning's own
    """Build a trainer on a device that can do what is asked of it.

    Args:
        accelerator: As for ``lightning.Trainer``; ``"auto"`` takes the CPU where Lightning would take Apple's GPU.
        **settings: All others of ``lightning.Trainer``.

    Raises:
        ValueError: Apple's GPU was asked for.
    """
    if accelerator == "auto" and MPSAccelerator.is_available():
        log.warning("running on the CPU: %s", LACK)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "GPU available but not used")  # Lightning's contrary advice
            return L.Trainer(accelerator="cpu", **settings)
    if accelerator == "mps" or (accelerator == "gpu" and MPSAccelerator.is_available()):
        raise ValueError(f"trainer.accelerator={accelerator} cannot be used: {LACK}; use trainer.accelerator=cpu")
    return L.Trainer(accelerator=accelerator, **settings)
