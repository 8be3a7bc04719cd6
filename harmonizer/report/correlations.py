"""Rank correlations between scores, over all models and over groups of them."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from harmonizer.report.families import FAMILIES
from harmonizer.report.models import Model
from harmonizer.statistics import rank_correlation

CORRELATED = ("accuracy", "tolerance", "alignment")
FEWEST = 3  # models that have a rank correlation


def comparable(models: Sequence[Model]) -> list[Model]:
    """Keep the models that have every score which any of their source has: correlations are over the same models."""
    had = {(model.source, axis) for model in models for axis in CORRELATED if not np.isnan(model.value(axis))}

    def complete(model: Model) -> bool:
        return not any(np.isnan(model.value(axis)) for axis in CORRELATED if (model.source, axis) in had)

    return [model for model in models if complete(model)]


def correlations(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Correlate each pair of scores over all models, each family and each source with at least three models.

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
            if group == "all" or len(members) >= FEWEST:
                summary = rank_correlation([model.value(x) for model in members], [model.value(y) for model in members])
                found.append({"x": x, "y": y, "group": group} | summary)
    return found
