"""The final table of scores."""

import math

import lightning as L
from rich.table import Table

from callbacks.evaluation import data_of
from harmonizer.cli.console import show_table
from harmonizer.evaluation.decision import CLASSES, protocol_name
from harmonizer.evaluation.scores import ceiling_source

ROWS = {
    "accuracy": ("accuracy", "{:.1%}"),
    "tolerance_median": ("perturbation tolerance, median L2", "{:.3f}"),
    "tolerance_mean": ("perturbation tolerance, mean of min(L2, max)", "{:.3f}"),
    "attack_success_rate": ("  attack success rate", "{:.1%}"),
    "share_censored": ("  never fooled (censored)", "{:.1%}"),
    "share_wrong": ("  wrong before any attack", "{:.1%}"),
    "share_failed": ("  failed (no usable gradient)", "{:.1%}"),
    "adversarial_alignment": ("adversarial alignment, Spearman", "{:.3f}"),
    "adversarial_alignment_of_ceiling": ("  share of the noise ceiling", "{:.1%}"),
    "feature_alignment": ("feature alignment, Spearman", "{:.3f}"),
    "feature_alignment_of_ceiling": ("  share of the noise ceiling", "{:.1%}"),
}


class ScoreTable(L.Callback):
    """Print the scores of the last validation, with their standard errors.

    Args:
        attack: Name of the attack.
        decision: Name of the decision that the attack had to change.
    """

    def __init__(self, attack: str, decision: str = CLASSES) -> None:
        self.attack = protocol_name(attack, decision)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the last epoch's scores."""
        self._show(trainer, f"last epoch, attack {self.attack}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print an evaluation's scores."""
        if trainer.state.fn == "validate":
            self._show(trainer, f"attack {self.attack}")

    def _show(self, trainer: L.Trainer, note: str) -> None:
        scores = {name.removeprefix("val/"): float(value) for name, value in trainer.callback_metrics.items()}
        if not trainer.is_global_zero or "accuracy" not in scores:
            return
        table = Table("score", "value", "standard error")
        for name, (title, style) in ROWS.items():
            if name in scores:
                error = scores.get(f"{name}_se")
                table.add_row(title, _cell(scores[name], style), "" if error is None else _cell(error, style))
        show_table(table, note, f"noise ceiling: {ceiling_source(data_of(trainer).manifest.ceilings)}")


def _cell(value: float, style: str) -> str:
    """Format a score; a dash if it is NaN."""
    return "-" if math.isnan(value) else style.format(value)
