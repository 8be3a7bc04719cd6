"""Rank correlations between scores, over all models and over groups of them."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from harmonizer.report.data import Model
from harmonizer.results.families import FAMILIES
from harmonizer.statistics import FEWEST_RANKED, rank_correlation

CORRELATED = ("accuracy", "tolerance", "alignment")


def comparable(
    models: Sequence[Model], axes: Iterable[str] = CORRELATED, value: Callable[[Model, str], float] = Model.value
) -> list[Model]:
    """Keep the models that count: those that have every score which any of their source has.

    Tables, figures, statistics and the web page all ask this function, so that all correlations are over the same
    models; a figure that draws others shows them grey.

    Args:
        models: All of them.
        axes: The scores.
        value: Returns a model's score, NaN where it has none.
    """
    scores = {id(model): {axis: value(model, axis) for axis in axes} for model in models}
    had = {(model.source, axis) for model in models for axis, score in scores[id(model)].items() if not np.isnan(score)}
    return [
        model
        for model in models
        if not any(np.isnan(score) and (model.source, axis) in had for axis, score in scores[id(model)].items())
    ]


def correlations(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Correlate each pair of scores over all models, each family and each source with at least four models.

    The group "all" is always there.

    Returns:
        One object a correlation: ``x``, ``y``, ``group``, ``rho``, ``p``, ``n``, ``low``, ``high``.
    """
    models = comparable(models)
    groups = {"all": models}
    groups |= {family: [model for model in models if model.family == family] for family in FAMILIES}
    sources = dict.fromkeys(model.source for model in models)
    groups |= {source: [model for model in models if model.source == source] for source in sources}
    found = []
    for x, y in combinations(CORRELATED, 2):
        for group, members in groups.items():
            if group == "all" or len(members) >= FEWEST_RANKED:
                summary = rank_correlation([model.value(x) for model in members], [model.value(y) for model in members])
                found.append({"x": x, "y": y, "group": group} | summary)
    return found
