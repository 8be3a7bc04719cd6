"""The same models under the 2023 protocol, as published and as corrected: ``--replay``."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harmonizer.report.data import Model
from harmonizer.report.style import COLORS, FAINT, INK, WARNING, mark, new_figure
from harmonizer.report.tables import correlation_text, escaped, estimate
from harmonizer.report.templates import templates
from harmonizer.results import RADIUS
from harmonizer.statistics import AS_PUBLISHED, Status, as_published_summary, mean_summary, rank_correlation

CORRECTED = "linsley2023"  # preferred if a model was measured with several other attacks
LONGEST = 10.0  # largest norm under the corrected protocol
TITLE = f"{AS_PUBLISHED}: a replay of a defective protocol, not a measurement"
PANELS = {"tolerance": "Perturbation tolerance (L2)", "alignment": "Adversarial alignment (Spearman)"}
WIDTH, ROW, REST = 10.0, 0.62, 1.9  # inches
SHIFT = 0.13  # offset of the two protocols from a model's row, in rows


@dataclass(frozen=True)
class Replayed:
    """One model under both protocols."""

    corrected: Model  # measured with the corrected protocol, or another attack
    published: Model  # measured with the published protocol

    @property
    def name(self) -> str:
        """The model's name."""
        return self.corrected.name

    @property
    def failed(self) -> list[int]:
        """Numbers of failed images under the corrected and under the published protocol."""
        return [int((model.columns["status"] == Status.FAILED).sum()) for model in (self.corrected, self.published)]

    @property
    def correct(self) -> tuple[float, float]:
        """Percentages of images classified correctly before the attack, under both protocols."""
        first, second = (
            100 * float((model.columns["status"] != Status.WRONG).mean()) for model in (self.corrected, self.published)
        )
        return first, second

    def fooled(self, column: str) -> NDArray[np.float64]:
        """Return a column of the images that the published protocol fooled."""
        rows = self.published.columns
        return np.asarray(rows[column][rows["status"] == Status.FOUND])

    @property
    def never_fooled(self) -> str:
        """How the published average treated images that were never fooled: "dropped" or "counted"."""
        return str(self.published.summary["protocol"]["settings"].get("never_fooled", "dropped"))

    @property
    def scaling(self) -> str:
        """How the images were rescaled: "minmax" or "standardized"."""
        return str(self.published.summary["protocol"]["settings"].get("scaling", "minmax"))

    def average(self, never_fooled: str | None = None) -> dict[str, Any]:
        """Average the published radii as published, or with another treatment of never-fooled images."""
        rows = self.published.columns
        chosen = never_fooled or self.never_fooled
        return as_published_summary(rows["status"], rows[RADIUS], rows["label"], never_fooled=chosen)

    def scores(self, panel: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a score with its interval, under the corrected and the published protocol."""
        if panel == "alignment":
            first, second = (
                mean_summary(model.columns["alignment"][model.columns["status"] == Status.FOUND])
                for model in (self.corrected, self.published)
            )
            return first, second
        return self.corrected.summary["tolerance"]["restricted_mean"], self.average()


def replayed(models: Sequence[Model]) -> list[Replayed]:
    """Pair the replay of each model with its corrected measurement, ordered by the corrected tolerance.

    Raises:
        ValueError: There is no replay, or a replayed model has no corrected measurement.
    """
    replays = [model for model in models if model.attack == AS_PUBLISHED]
    if not replays:
        raise ValueError(f"expected results of attack={AS_PUBLISHED} for --replay, got none; evaluate a model with it")
    pairs = []
    for published in replays:
        proper = [
            model for model in models if model.attack not in ("", AS_PUBLISHED) and _label(model) == _label(published)
        ]
        if not proper:
            raise ValueError(
                f"expected results of {_label(published)!r} under attack={CORRECTED} for --replay, got none; "
                "evaluate it with that attack"
            )
        pairs.append(Replayed(min(proper, key=lambda model: model.attack != CORRECTED), published))
    return sorted(pairs, key=lambda pair: pair.corrected.value("tolerance"))


def agreement(pairs: Sequence[Replayed], panel: str) -> dict[str, Any]:
    """Correlate the ranks of the models under the two protocols."""
    both = [pair.scores(panel) for pair in pairs]
    return rank_correlation([first["mean"] for first, _ in both], [second["mean"] for _, second in both])


def replay_markdown(pairs: Sequence[Replayed]) -> str:
    """Write the table of both protocols, their rank correlations, and a paragraph on each published defect."""
    environment = templates()
    environment.filters |= {"escaped": escaped, "shown": partial(estimate, low=np.nan, high=np.nan)}
    text = environment.get_template("replay.jinja").render(
        title=TITLE,
        pairs=pairs,
        correlations=[(panel, correlation_text(agreement(pairs, panel))) for panel in PANELS],
        radius=np.concatenate([pair.fooled(RADIUS) for pair in pairs]),
        column=RADIUS,
        eps=np.concatenate([pair.fooled("eps") for pair in pairs]),
        longest=LONGEST,
    )
    return text + "\n"


def replay_figure(pairs: Sequence[Replayed]) -> Figure:
    """Draw the scores of each model under both protocols on one row, with the images that the average misplaced."""
    figure = new_figure(WIDTH, REST + ROW * len(pairs))
    panels = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [3, 2]})
    rows = np.arange(len(pairs), dtype=float)
    for axes, panel in zip(panels, PANELS, strict=True):
        for row, pair in zip(rows, pairs, strict=True):
            first, second = pair.scores(panel)
            color = COLORS[pair.corrected.family]
            places = ((first, row + SHIFT, color, "o"), (second, row - SHIFT, WARNING, "X"))
            axes.plot([first["mean"], second["mean"]], [row + SHIFT, row - SHIFT], color=FAINT, linewidth=3, zorder=1)
            for score, height, shade, marker in places:
                error = [[np.nan_to_num(score["mean"] - score["low"])], [np.nan_to_num(score["high"] - score["mean"])]]
                style = {"color": shade, "marker": marker, "markersize": 7, "linewidth": 1.1, "zorder": 3}
                axes.errorbar(score["mean"], height, xerr=error, **style)
        found = agreement(pairs, panel)
        axes.set_title(f"The two protocols:\n{correlation_text(found)}", fontsize=8.5)
        axes.set_xlabel(PANELS[panel])
        axes.grid(axis="x", color=FAINT, linewidth=0.5)
    tolerance = panels[0]
    tolerance.set_yticks(rows, [f"{_label(pair.corrected)}\n{_small_print(pair)}" for pair in pairs], fontsize=8)
    for label in tolerance.get_yticklabels():
        label.set_parse_math(False)
    tolerance.set_xlim(left=0)
    if tolerance.get_xlim()[1] > LONGEST:
        tolerance.axvline(LONGEST, color=INK, linewidth=0.8, linestyle=":")
        tolerance.text(LONGEST, len(pairs) - 0.6, " largest possible, corrected", fontsize=7, va="bottom")
    tolerance.set_ylim(-0.6, len(pairs) - 0.3)
    families = list(dict.fromkeys(pair.corrected.family for pair in reversed(pairs)))
    handles = [
        *(
            tolerance.plot([], [], "o", color=COLORS[family], label=f"corrected, 95 % interval: {family}")[0]
            for family in families
        ),
        tolerance.plot([], [], marker="X", color=WARNING, linestyle="none", label="as published, with its defects")[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)
    mark(figure, TITLE)
    return figure


def _small_print(pair: Replayed) -> str:
    """Return how the published average treated never-fooled and failed images."""
    made, failed = pair.average(), pair.failed[1]
    kept = "counted at 10" if pair.never_fooled == "counted" else "dropped"
    parts = [f"{made['n_never_fooled']} never fooled, {kept}"] if made["n_never_fooled"] else []
    parts += [f"{failed} failed, {made['n_nan_fooled']} of them published as fooled"] if failed else []
    return "\n".join(parts) or "every image fooled"


def _label(model: Model) -> str:
    """Return the label of a measured model, without the folder that its shown name may have."""
    return str(model.summary["model"]["label"])
