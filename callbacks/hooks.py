"""Hooks of an evaluation, which any callback may have in addition to Lightning's own."""

from collections.abc import Sequence

import lightning as L

from harmonizer.evaluation.progress import Progress as Progress
from harmonizer.evaluation.summary import Outcome
from harmonizer.results import Row


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
