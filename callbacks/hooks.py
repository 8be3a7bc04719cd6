"""Hooks of an evaluation, which any callback may have in addition to Lightning's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L

from harmonizer.evaluation.summary import Outcome, Protocol
from harmonizer.results import Row


@dataclass
class Progress:
    """An evaluation while it runs, in this process.

    Attributes:
        protocol: How images are measured.
        total: Images to measure, over all processes.
        at_once: Images attacked in one call; None takes what the device can use.
        rows: Per image, by key, so far; those that are there when it starts are not attacked again.
        examples: The first found images that have a map, by key: image, human map, adversarial and label.
        eps_max: Largest radius that the attack searches.
        health: The gradient-masking report, as plain values; None before it is made.
    """

    protocol: Protocol
    total: int
    at_once: int | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    eps_max: float = 10.0
    health: dict[str, Any] | None = None


class EvaluationHooks:
    """What :class:`callbacks.evaluation.Evaluation` calls on every callback that has these methods.

    The order of the callbacks does not matter.
    """

    def on_evaluation_start(self, trainer: L.Trainer, pl_module: L.LightningModule, progress: Progress) -> None:
        """Begin; rows and examples of an interrupted evaluation may be put into ``progress``."""

    def on_images_attacked(self, trainer: L.Trainer, done: int, progress: Progress) -> None:
        """Take note of images attacked so far, over all processes; called now and then."""

    def on_gradients_examined(self, trainer: L.Trainer, done: int, total: int) -> None:
        """Take note of how far the gradient-masking report is; called now and then in the first process."""

    def on_rows(
        self, trainer: L.Trainer, pl_module: L.LightningModule, rows: Sequence[Row], progress: Progress
    ) -> None:
        """Take the rows of a few images; without rows, what else has changed."""

    def on_evaluation_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outcome: Outcome, progress: Progress
    ) -> None:
        """Take what was found, over all processes; called in each."""
