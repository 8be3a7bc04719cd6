"""Rank correlations over models: between scores, between attack maps (masks) and between attacks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np

from harmonizer.report.data import AXES, CORRELATED, Model, Score, ceiling_of, comparable
from harmonizer.report.further import further_axes
from harmonizer.report.tables import NONE, escaped, estimate, markdown_table
from harmonizer.results.families import FAMILIES
from harmonizer.statistics import AS_PUBLISHED, FEWEST_RANKED, Status, mean_summary, rank_correlation

# Mask -> its column of the per-image rows. The names are harmonizer.functional.attack_map's.
MASKS: Mapping[str, str] = {
    "abs_of_mean": "alignment",  # as published
    "mean_of_abs": "alignment_mean_of_abs",
    "max_of_abs": "alignment_max_of_abs",
    "l2": "alignment_l2",
}
COMPARED = ("tolerance", "alignment")  # scores whose rankings are compared between attacks


def correlations(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Correlate each pair of scores over the models of each source, and over each family of at least four models.

    Scores of different sources are not comparable, so no correlation spans two sources. Scores that only some models
    have are correlated with the usual ones over those models.

    Returns:
        One object per correlation: ``x``, ``y``, ``source``, ``group`` ("all" or a family), ``rho``, ``p``, ``n``,
        ``low``, ``high``.
    """
    counted, found = comparable(models), []
    for x, y in [*combinations(CORRELATED, 2), *product(CORRELATED, further_axes(models))]:
        for source in dict.fromkeys(model.source for model in models):
            members = [model for model in counted if model.source == source]
            if further := y not in CORRELATED:
                members = [model for model in members if y in model.scores]
            if further and len(members) < FEWEST_RANKED:
                continue
            groups = {"all": members}
            if not further:
                groups |= {family: [model for model in members if model.family == family] for family in FAMILIES}
            for group, chosen in groups.items():
                if group == "all" or len(chosen) >= FEWEST_RANKED:
                    rho = rank_correlation([m.value(x) for m in chosen], [m.value(y) for m in chosen])
                    found.append({"x": x, "y": y, "source": source, "group": group} | rho)
    return found


def alignment_of_mask(model: Model, mask: str) -> float:
    """Return a model's mean alignment under a mask, as a share of the noise ceiling; NaN if it was not measured."""
    return with_mask(model, mask, resamples=0).value("alignment") if model.results else np.nan


def sensitivity(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Correlate the rankings of models under each pair of masks and each pair of attacks.

    Masks are compared within a source, attacks over the models measured with both. The replay of the 2023 figures is
    skipped.

    Returns:
        One object per pair with four models or more: ``x``, ``y``, ``group``, ``rho``, ``p``, ``n``, ``low``, ``high``.
    """
    measured = [m for m in comparable(models) if m.results is not None and m.attack != AS_PUBLISHED]
    sources = {
        source: {model.name: model for model in measured if model.source == source}
        for source in dict.fromkeys(model.source for model in measured)
    }
    found: list[dict[str, Any]] = []
    for source, members in sources.items():
        counted = comparable(list(members.values()), MASKS, alignment_of_mask)
        scores = {mask: [alignment_of_mask(model, mask) for model in counted] for mask in MASKS}
        for a, b in combinations(MASKS, 2):
            found.append(
                {"x": f"alignment ({a})", "y": f"alignment ({b})", "group": f"masks, {source}"}
                | rank_correlation(scores[a], scores[b])
            )
    for a, b in combinations(sources, 2):
        shared = [name for name in sources[a] if name in sources[b]]
        for score in COMPARED:
            values = [[sources[source][name].value(score) for name in shared] for source in (a, b)]
            names = {"x": f"{score} ({a})", "y": f"{score} ({b})", "group": "attacks"}
            found.append(names | rank_correlation(*values))
    return [record for record in found if record["n"] >= FEWEST_RANKED]


def sensitivity_markdown(models: Sequence[Model], found: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown tables of alignments under every mask, with ranks, and of rank correlations."""
    values = {id(model): np.array([alignment_of_mask(model, mask) for mask in MASKS]) for model in models}
    measured = [model for model in models if not np.isnan(values[id(model)][-1])]
    text = "# Sensitivity of the ranking of models to mask and attack\n\n"
    if measured:
        rows = [["model", "attack", *MASKS], ["---", "---", *["---:"] * len(MASKS)]]
        rivals = {
            source: np.array([values[id(model)] for model in measured if model.source == source])
            for source in {model.source for model in measured}
        }
        for model in measured:
            own = values[id(model)]
            ranks = 1 + (rivals[model.source] > own).sum(0)
            cells = [NONE if np.isnan(v) else f"{v:.3f} ({rank})" for v, rank in zip(own, ranks, strict=True)]
            rows.append([escaped(model.name), escaped(model.source), *cells])
        text += (
            "Adversarial alignment (share of the noise ceiling) by mask; in brackets the rank within the attack.\n\n"
        )
        text += markdown_table(rows) + "\n"
    if not found:
        return f"{text}No rankings to compare: fewer than {FEWEST_RANKED} models share an attack, or two attacks.\n"
    text += "Spearman correlation over models, with its bootstrap 95 % interval from ten models on: 1 means the same "
    text += "ranking.\n\n"
    rows = [["first", "second", "group", "rho", "models"], ["---", "---", "---", "---", "---:"]]
    for r in found:
        names = [escaped(r[key]) for key in ("x", "y", "group")]
        rows.append([*names, estimate(r["rho"], r["low"], r["high"]), str(r["n"])])
    return text + markdown_table(rows)


def with_mask(model: Model, mask: str, resamples: int = 2000) -> Model:
    """Replace a model's alignment by that under another mask, or remove it if the mask was not measured."""
    if model.results is None:
        return model
    columns = model.results.columns
    values = columns[MASKS[mask]][columns["status"] == Status.FOUND]
    others = {axis: score for axis, score in model.scores.items() if axis != "alignment"}
    if np.isnan(values).all():
        return replace(model, scores=others)
    summary = mean_summary(values, resamples=resamples)
    return replace(
        model, scores=others | {"alignment": Score.of(summary, "mean", 1 / ceiling_of(model.results, "alignment"))}
    )


def show_mask(mask: str) -> str:
    """Return the title of the alignment axis for a mask other than the published one."""
    return AXES["alignment"].title.replace(" (", f" [mask {mask}] (")
