"""Ranks of own models among all models of their protocol."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harmonizer.report.data import AXES, Model
from harmonizer.report.sources import Source

RANKED = ("tolerance", "alignment", "accuracy")
NEIGHBOURS = 2  # models kept on either side of a rank
MOST_OWN = 4  # most models ranked by default


@dataclass(frozen=True)
class Rank:
    """The rank of an own model in one score."""

    model: Model  # the own model
    axis: str  # the score
    rank: int  # from 1, the best; equal scores share the better rank
    of: int  # number of models ranked, including the own one
    better: Sequence[Model]  # the next better models, the best first
    worse: Sequence[Model]  # the next worse models, the best first
    protocol: str  # name of the protocol of the ranking

    @property
    def text(self) -> str:
        """The rank in words, with the neighbours' scores."""
        sides = [("behind", self.better[-1:]), ("ahead of", self.worse[:1])]
        near = [f"{side} {model.name} ({self._shown(model)})" for side, group in sides for model in group]
        text = f"{ordinal(self.rank)} of {self.of} in {self.axis} with {self._shown(self.model)}"
        return ", ".join([text, *near])

    def _shown(self, model: Model) -> str:
        return f"{model.value(self.axis):.{AXES[self.axis].digits}f}".replace("-", "\N{MINUS SIGN}")


def ordinal(number: int) -> str:
    """Return the ordinal of a rank.

    >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 41, 112, 122)]
    ['1st', '2nd', '3rd', '4th', '11th', '41st', '112th', '122nd']
    """
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def own_models(models: Sequence[Model], names: Sequence[str] = ()) -> list[Model]:
    """Return the models to rank: the named ones, or by default a few that were trained here or measured here.

    Models measured here are ranked by default only next to a published table.

    Raises:
        ValueError: No model has one of the names.
    """
    if missing := [name for name in names if name not in {model.name for model in models}]:
        known = ", ".join(model.name for model in models if model.results is not None) or "a model of the table"
        raise ValueError(f"expected the name of a model for --own, got {missing[0]!r}; try {known}")
    if names:
        return [model for model in models if model.name in names]
    measured = [model for model in models if model.results is not None]
    own = [model for model in measured if model.training] or (measured if len(measured) < len(models) else [])
    return own if len(own) <= MOST_OWN else []


def ranks(models: Sequence[Model], sources: Sequence[Source], own: Sequence[Model]) -> Iterator[Rank]:
    """Rank own models among all models measured with the same attack.

    Own results and a published table share a ranking only if the table names its attack, and decision and head are the
    same; their images may differ, which the report states.
    """
    measure = {source.name: source.measure or source.name for source in sources}
    measured = {model.source for model in models if model.results is not None}
    # Published tables with the same attack, decision and head, by own source.
    alike = {own: {s for s in measure.keys() - measured if measure[s] == measure[own]} for own in measured}
    for model in own:
        mates = [m for m in models if m.source == model.source or m.source in alike.get(model.source, ())]
        table = next((m.source for m in mates if m.source != model.source), model.source)
        for axis in RANKED:
            value = model.value(axis)
            others = [m for m in mates if m is not model and np.isfinite(m.value(axis))]
            if np.isnan(value) or len(others) < 2:
                continue
            ordered = sorted(others, key=lambda m: -m.value(axis))
            better = [m for m in ordered if m.value(axis) > value]
            worse = ordered[len(better) :]
            yield Rank(model, axis, len(better) + 1, len(others) + 1, better[-NEIGHBOURS:], worse[:NEIGHBOURS], table)
