"""Scores that only some models have: alignments by the names of their papers, and agreement with people's answers.

Each has its own column, axis and correlations. Shares of ClickMe v2's ceilings, shares of other ceilings and means of
ratios are separate scores. Behaviour is shown for models that were compared with the same answers on the same images.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harmonizer.report.data import Axis, Model, Score
from harmonizer.report.sources import DECISION
from harmonizer.results import BEHAVIOUR, read_behaviour
from harmonizer.statistics import CLICKME_V2

OTHER, RATIOS = "_other_ceiling", "_mean_of_ratios"  # suffixes of keys
MAP = "Rank correlation of the human map with"
SHARE = "share of the correlation between people."
ONEVISION = {  # score -> (title, meaning without the ceiling)
    "onevision2026": (
        "onevision2026",
        f"{MAP} the predicted class's saliency, averaged twice over a disk of 21 of 224 pixels",
    ),
    "onevision2026_topk": ("onevision2026 top k", "onevision2026 on as many of the largest pixels as people marked"),
    "onevision2026_null": ("onevision2026 null", "onevision2026 with the human map of another class: chance level"),
}


def _onevision() -> Iterator[tuple[str, tuple[Axis, str]]]:
    """Yield the key of each onevision score, with its axis and meaning."""
    for name, (short, meaning) in ONEVISION.items():
        for ending, more, ceiling in (("", "", "ClickMe v2's ceiling"), (OTHER, ", other ceiling", "another ceiling")):
            title, key = f"{short}{more}", f"{name}{ending}"
            yield key, (Axis(f"{title} (share of noise ceiling)", title, 3), f"{meaning}; share of {ceiling}.")
            ratios = f"{title}, mean of ratios"
            meant = f"{title} as the mean of the shares of single images, which can exceed 1."
            yield f"{key}{RATIOS}", (Axis(f"{ratios} (share of noise ceiling)", ratios, 3), meant)


# Score -> (axis, meaning with its unit), in the order of the columns.
FURTHER: Mapping[str, tuple[Axis, str]] = {
    "fel2022": (
        Axis("fel2022 (share of noise ceiling)", "fel2022", 3),
        f"{MAP} the absolute gradient of the true class's logit, maximum over channels; {SHARE}",
    ),
    "linsley2023": (
        Axis("linsley2023 (share of noise ceiling)", "linsley2023", 3),
        f"{MAP} the absolute value of the perturbation's mean over the channels; {SHARE}",
    ),
    "feng2025": (
        Axis("feng2025 (share of noise ceiling)", "feng2025", 3),
        f"{MAP} the absolute value of the perturbation's largest signed channel; {SHARE}",
    ),
    **dict(_onevision()),
    "error_consistency": (
        Axis("Error consistency (Cohen's kappa)", "Error consistency (kappa)", 3),
        "Cohen's kappa of erring on the same images as people, \N{MINUS SIGN}1 to 1; 0 is as expected by chance.",
    ),
    "shape_bias": (
        Axis("Shape bias (share of answers)", "Shape bias", 3),
        "Share of shape answers among those that follow shape or texture where the two conflict, 0 to 1.",
    ),
}


def further_axes(models: Sequence[Model]) -> dict[str, Axis]:
    """Return the axes of the further scores that any model has."""
    having = {key for model in models for key in model.scores}
    return {key: axis for key, (axis, _) in FURTHER.items() if key in having}


def named_scores(summary: Mapping[str, Any]) -> dict[str, Score]:
    """Return the alignments of ``scores`` in a summary as shares of their ceilings."""
    found = {}
    for name, block in (summary.get("scores") or {}).items():
        key = name + OTHER * (name in ONEVISION and block.get("ceiling_source") != CLICKME_V2)
        if block["ceiling"] > 0:
            found[key] = Score.of(block, "mean", 1 / block["ceiling"])
        if block.get("mean_of_ratios") is not None:
            found[key + RATIOS] = Score.of(block["mean_of_ratios"], "mean")
    protocol = summary["protocol"]
    if (protocol["attack"], protocol.get(DECISION)) == ("feng2025", "animate"):
        found.pop("feng2025", None)  # here this score is the adversarial alignment
    return {key: score for key, score in found.items() if key in FURTHER and np.isfinite(score.value)}


def behaviour_scores(behaviour: Mapping[str, Any]) -> dict[str, Score]:
    """Return error consistency and shape bias, where defined."""
    scores = {"error_consistency": Score(behaviour["error_consistency"], n=behaviour["images"])}
    if (bias := behaviour.get("shape_bias")) is not None:
        scores["shape_bias"] = Score(bias["shape_bias"], n=bias["n"])
    return {key: score for key, score in scores.items() if np.isfinite(score.value)}


def with_further_scores(models: Sequence[Model]) -> tuple[list[Model], list[str]]:
    """Add named scores and behaviour to measured models.

    Returns:
        The models, and notes on behaviour: the answers it is compared with, and models whose behaviour is not shown.

    Raises:
        ValueError: A ``behaviour.json`` is damaged.
    """
    behaviour, notes = _comparable_behaviour(models)
    added = []
    for model in models:
        further = named_scores(model.summary) if model.results else {}
        if (found := behaviour.get(id(model))) is not None:
            further |= behaviour_scores(found)
        added.append(replace(model, scores={**model.scores, **further}))
    return added, notes


def _comparable_behaviour(models: Sequence[Model]) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Return the behaviour of the models that share images and answers, by ``id``, and notes on it."""
    measured = [(model, model.results) for model in models if model.results is not None]
    known = {id(model): found for model, results in measured if (found := read_behaviour(results.folder)) is not None}
    weights = {id(model): results.summary["model"].get("weights_sha256") for model, results in measured}
    stale = {number for number, found in known.items() if found["weights_sha256"] != weights[number]}
    counts = Counter(sorted(found["data_sha256"] for number, found in known.items() if number not in stale))
    data = [digest for digest, _ in counts.most_common(1)]
    shown = {number: found for number, found in known.items() if number not in stale and found["data_sha256"] in data}
    notes = [_compared(next(iter(shown.values())))] if shown else []
    for reason, numbers in (
        ("was measured with other weights than the results", stale),
        ("uses other images or answers than that of most models", known.keys() - stale - shown.keys()),
    ):
        names = ", ".join(model.name for model, _ in measured if id(model) in numbers)
        notes += [f"Not shown, because {BEHAVIOUR} {reason}: {names}."] if numbers else []
    return shown, notes


def _compared(behaviour: Mapping[str, Any]) -> str:
    """Return a note on the answers that behaviour is compared with, and on people's agreement with each other."""
    people, bias = behaviour["between_people"], behaviour.get("people_shape_bias")
    parts = [f"people agree with each other at kappa {people:.3f}"] if np.isfinite(people) else []
    if bias is not None and np.isfinite(bias["shape_bias"]):
        parts.append(f"their shape bias is {bias['shape_bias']:.3f}")
    counts = f"{behaviour['trials']} answers of {behaviour['people']} people to {behaviour['images']} images"
    return f"Behaviour is compared with {'; '.join([counts, *parts])}."
