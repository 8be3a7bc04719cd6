"""The main finding of a report, and the definitions of its scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harmonizer.report.data import Model
from harmonizer.report.paired import Comparison
from harmonizer.report.tables import estimate

RHO = "\N{GREEK SMALL LETTER RHO}"
DEFINITIONS = {
    "accuracy": ("Accuracy", "share of the images classified correctly, in %."),
    "tolerance": (
        "Perturbation tolerance",
        "mean L2 norm, in [0,1] pixel units, of the smallest perturbation found that changes a correct decision. An "
        "image that was never fooled counts at the largest radius searched.",
    ),
    "alignment": (
        "Adversarial alignment",
        "Spearman correlation of that perturbation's map with the human map, as a share of the correlation between "
        "people: 1 is as close as people are to each other.",
    ),
    "feature_alignment": (
        "Feature alignment",
        "Spearman correlation of the model's saliency with the human map, as a share of the correlation between "
        "people.",
    ),
    "tolerance_rms": ("RMS tolerance", "root mean square change of a pixel, of 255, by that perturbation."),
}
MORE = {"tolerance": ("more tolerant", "less tolerant"), "alignment": ("more aligned", "less aligned")}
SCORE = {"tolerance": "tolerance", "alignment": "adversarial alignment"}


def finding(
    models: Sequence[Model], correlations: Sequence[Mapping[str, Any]], comparisons: Sequence[Comparison]
) -> str:
    """Return the finding: the effect of harmonization, and the correlations of the scores within one protocol.

    Args:
        models: All models.
        correlations: Correlations as in ``statistics.json``.
        comparisons: Comparisons of pairs of models.

    Returns:
        One sentence each; with nothing to compare or to correlate, the number of models.
    """
    trained = [pair for pair in comparisons if pair.b.control == pair.a.name]
    sentences = [_pairs(trained), _relation(models, correlations)]
    count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
    return " ".join(filter(None, sentences)) or f"{count} measured, too few for a rank correlation."


def _relation(models: Sequence[Model], correlations: Sequence[Mapping[str, Any]]) -> str:
    """State the correlations within the protocol with the most models; empty without correlations."""
    known = [r for r in correlations if r["group"] == "all" and r["y"] in MORE and np.isfinite(r["rho"])]
    if not known:
        return ""
    source, n = max(((item["source"], item["n"]) for item in known), key=lambda pair: pair[1])
    found = {(item["x"], item["y"]): item for item in known if item["source"] == source}
    first = "accuracy" if any(x == "accuracy" for x, _ in found) else "tolerance"
    clear, unclear, sign = [], [], f"{RHO} "
    for (x, y), item in found.items():
        if x == first:
            rho = f"({sign}{estimate(item['rho'], item['low'], item['high'], 2)})"
            sign = ""  # only the first correlation has the sign
            if np.sign(item["low"]) == np.sign(item["high"]) != 0:
                clear.append(f"{MORE[y][item['rho'] < 0]} {rho}")
            else:
                unclear.append(f"{SCORE[y]} {rho}")
    place = f"Over {n} models{'' if len({model.source for model in models}) == 1 else f' of {source}'}, "
    more = "more accurate" if first == "accuracy" else "more tolerant"
    parts = [f"{more} models are {' and '.join(clear)}"] if clear else []
    parts += [f"{first} is not reliably related to {' or '.join(unclear)}"] if unclear else []
    return f"{place}{'; '.join(parts)}."


def _pairs(comparisons: Sequence[Comparison]) -> str:
    """State the effect of harmonization; empty without pairs of a control and its harmonized model."""
    raised: list[str] = []
    others: list[str] = []
    for score, name in SCORE.items():
        differences = [pair.differences[score] for pair in comparisons if score in pair.differences]
        if differences:
            change, up = _change(differences)
            (raised if up else others).append(f"{name} {change}")
    parts = [f"raises {' and '.join(raised)}"] if raised else []
    parts += [f"changes {' and '.join(others)}"] if others else []
    if not parts:
        return ""
    subject = comparisons[0].b.architecture if len(comparisons) == 1 else f"{len(comparisons)} models"
    return f"Harmonizing {subject} {'; it '.join(parts)}."


def _change(differences: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Return the change of a score, and whether it rose: with its interval for one pair, as a range for several."""
    if len(differences) == 1:
        (d,) = differences
        up = bool(d["low"] > 0)
        return f"by {estimate(d['mean'], d['low'], d['high'], 2, sign='-' if up else '+')}", up
    count, means = sum(d["low"] > 0 for d in differences), [d["mean"] for d in differences]
    low, high = (f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") for value in (min(means), max(means)))
    n = len(differences)
    return f"({'all' if count == n else f'interval above 0 in {count}'} of {n}, {low} to {high})", count > n / 2
