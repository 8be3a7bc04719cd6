"""Comparison of two models on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonizer.report.data import Model, ceiling_of
from harmonizer.results import RADIUS, Results
from harmonizer.statistics import pair_keys, paired_difference, paired_tolerance

SCORES = ("tolerance", "alignment", "feature_alignment")
MOST_CHANGED = 8  # number of most changed images, half of them decreases
TEST = "Wilcoxon signed-rank, two-sided"


@dataclass(frozen=True)
class Comparison:
    """Comparison of two models on the images that they share."""

    a: Model  # usually the control
    b: Model  # differences are b - a
    keys: NDArray[np.str_]  # (N,) names of the shared images
    values: dict[str, NDArray[np.float64]]  # by score, (2,N) values of a and b; NaN where undefined
    differences: dict[str, dict[str, Any]]  # by score, the result of `paired_difference`

    def most_changed(self, score: str) -> list[int]:
        """Return the most changed images, ordered from the largest decrease to the largest increase."""
        difference = self.values[score][1] - self.values[score][0]
        order: list[int] = np.argsort(difference, kind="stable")[: np.count_nonzero(~np.isnan(difference))].tolist()
        if len(order) <= MOST_CHANGED:
            return order
        return order[: MOST_CHANGED // 2] + order[-(MOST_CHANGED // 2) :]


def compare(a: Model, b: Model) -> Comparison:
    """Compare two measured models image by image.

    Tolerance, ``min(r, eps_max)``, is compared on the images that both models classify correctly before the attack;
    alignment on the images where both alignments are defined.

    Raises:
        ValueError: A model was not measured here, the protocols differ, or the models share no image.
    """
    if a.results is None or b.results is None:
        raise ValueError(f"expected two models with per-image results, {(b if a.results else a).name!r} has none")
    protocols = [model.summary["protocol"] for model in (a, b)]
    if protocols[0]["hash"] != protocols[1]["hash"]:
        raise ValueError(f"expected {a.name!r} and {b.name!r} to be measured under one protocol; measure one again")
    columns = [a.results.columns, b.results.columns]
    indices = pair_keys(columns[0]["key"], columns[1]["key"])
    if not len(indices[0]):
        raise ValueError(f"expected {a.name!r} and {b.name!r} to share images, they share none")
    values = {}
    for score in SCORES:
        both = [
            _values(own, score, float(protocols[0]["eps_max"]), _common_ceiling(a.results, b.results, score))[index]
            for own, index in zip(columns, indices, strict=True)
        ]
        values[score] = np.stack(both)
    differences = {score: paired_difference(*both) for score, both in values.items() if np.isfinite(both).all(0).any()}
    return Comparison(a, b, columns[0]["key"][indices[0]], values, differences)


def default_pairs(models: Sequence[Model]) -> list[tuple[Model, Model]]:
    """Return the pairs of a control and its harmonized model; without any, the pair of models if there are just two."""
    measured = {(model.source, model.name): model for model in models if model.results is not None}
    pairs = [
        (measured[m.source, m.control], m) for m in measured.values() if m.control and (m.source, m.control) in measured
    ]
    if not pairs and len({model.source for model in measured.values()}) == 1 and len(measured) == 2:
        pairs = list(pairwise(measured.values()))
    return pairs


def named_pair(models: Sequence[Model], names: Sequence[str]) -> tuple[Model, Model]:
    """Find two models by name.

    Raises:
        ValueError: No measured model has the name, or several have it.
    """
    found = []
    for name in names:
        having = [
            model for model in models if model.results is not None and name in (model.name, model.results.folder.name)
        ]
        if len(having) != 1:
            known = ", ".join(model.name for model in models if model.results is not None)
            raise ValueError(f"expected the name of one measured model, got {name!r}; try {known}")
        found.append(having[0])
    return found[0], found[1]


def records(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return comparisons as JSON objects, one per pair and score."""
    return [
        {"a": pair.a.name, "b": pair.b.name, "score": score, "test": TEST}
        | difference
        | {"most_changed": [str(pair.keys[i]) for i in pair.most_changed(score)]}
        for pair in comparisons
        for score, difference in pair.differences.items()
    ]


def _common_ceiling(a: Results, b: Results, score: str) -> float:
    """Return the mean ceiling of both models; their ceilings differ slightly, as means over different fooled images."""
    return (ceiling_of(a, score) + ceiling_of(b, score)) / 2


def _values(columns: dict[str, Any], score: str, eps_max: float, ceiling: float) -> NDArray[np.float64]:
    """Return a score of each image, alignments as shares of the ceiling."""
    if score == "tolerance":
        return paired_tolerance(columns["status"], columns[RADIUS], eps_max=eps_max)
    return np.asarray(columns[score] / ceiling)
