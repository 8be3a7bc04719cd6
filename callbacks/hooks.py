"""Hooks of an evaluation, in addition to Lightning's."""

from collections.abc import Sequence

import lightning as L

from harmonizer.evaluation.progress import Progress as Progress
from harmonizer.evaluation.summary import Outcome
from harmonizer.results import Row


class EvaluationHooks:
    """Base of callbacks that :class:`callbacks.evaluation.Evaluation` notifies, in any order."""

    def on_evaluation_start(self, trainer: L.Trainer, pl_module: L.LightningModule, progress: Progress) -> None:
        """Called at the start; may add rows and examples of an interrupted evaluation to ``progress``."""

    def on_images_attacked(self, trainer: L.Trainer, done: int, progress: Progress) -> None:
        """Called with the number of images attacked so far, over all processes."""

    def on_gradients_examined(self, trainer: L.Trainer, done: int, total: int) -> None:
        """Called with the progress of the gradient-masking report, in the first process."""

    def on_rows(
        self, trainer: L.Trainer, pl_module: L.LightningModule, rows: Sequence[Row], progress: Progress
    ) -> None:
        """Called with new rows, or without rows when ``progress.health`` has changed."""

    def on_evaluation_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outcome: Outcome, progress: Progress
    ) -> None:
        """Called in each process with the outcome over all processes."""
