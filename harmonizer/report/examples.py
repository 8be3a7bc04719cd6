"""Attacked examples of results, and the choice of models and images for a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmonizer.report.data import Model
from harmonizer.results.categories import category_of, class_name, default_categories, short_name
from harmonizer.results.families import FAMILIES

Pictures = NDArray[np.float32]
MOST_MODELS, MOST_IMAGES = 4, 6
FEWEST_SHARED = 2  # fewest images shared by the models of a grid
MAGNIFICATIONS = (1, 2, 5, 10, 20, 50, 100)
VISIBLE = 0.25  # largest pixel change, in [0,1], of a magnified perturbation
HEAT = "inferno"
TIMES_MEAN = 6.0  # multiple of a map's mean at which the shared colour scale ends


@dataclass(frozen=True)
class Example:
    """One attacked image."""

    key: str  # key of the sample
    data: str  # digest of its data set, because keys may recur in other data
    image: Pictures  # (H,W,3) in [0,1]
    human: Pictures  # (H,W) human map, >= 0
    change: Pictures  # (H,W,3) adversarial - image
    radius: float  # L2 norm of the change
    label: str = ""  # name of the image's class
    prediction: str = ""  # name of the predicted class of the attacked image
    category: str = ""  # "animate" or "inanimate"; empty if unknown
    alignment: float = np.nan  # Spearman correlation of attack map and human map; NaN if unknown

    @property
    def perturbation(self) -> Pictures:
        """The attack map |mean over channels of change|."""
        change: Pictures = self.change.mean(2)
        return np.abs(change)

    def attacked(self, magnification: float) -> Pictures:
        """The attacked image with its perturbation magnified."""
        return np.clip(self.image + magnification * self.change, 0, 1)


def read_examples(
    model: Model, most: int | None = None, categories: Mapping[str, str] | None = None
) -> dict[str, Example]:
    """Read a model's first attacked examples by key, in the data's order; empty if it has none."""
    arrays = model.results.read_examples(most, saliency=False) if model.results is not None else {}
    if model.results is None or not arrays:
        return {}
    data, columns = model.results.summary["data"], model.results.columns
    categories = default_categories() if categories is None else categories
    found = {}
    for i, key in enumerate(map(str, arrays["keys"])):
        image = np.moveaxis(arrays["image"][i], 0, -1)
        change = np.moveaxis(arrays["adversarial"][i], 0, -1) - image
        label, prediction, alignment = "", "", np.nan
        if len(row := np.flatnonzero(columns["key"] == key)):
            codes = (int(columns[column][row[0]]) for column in ("label", "prediction"))
            label, prediction = (class_name(code, data["name"], data.get("classes", 0)) for code in codes)
            alignment = float(columns["alignment"][row[0]])
        if "label" in arrays:  # missing in older results
            label, prediction = (str(arrays[name][i]) for name in ("label", "prediction"))
        found[key] = Example(
            key,
            str(data["manifest_sha256"]),
            image,
            arrays["human"][i],
            change,
            float(np.linalg.norm(change)),
            short_name(label),
            short_name(prediction),
            category_of(label, categories),
            alignment,
        )
    return found


def scaled(heat: Pictures) -> Pictures:
    """Scale a map from its minimum and 99.5th percentile to [0,1]; a constant map becomes zero."""
    low, high = heat.min(), np.percentile(heat, 99.5)
    if high <= low:
        high = heat.max()
    return np.clip((heat - low) / (high - low), 0, 1) if high > low else np.zeros_like(heat)


def relative(heat: Pictures) -> Pictures:
    """Scale a map >= 0 so that :data:`TIMES_MEAN` times its mean becomes 1, a scale shared by people and attacks."""
    mean = heat.mean()
    return np.clip(heat / (TIMES_MEAN * mean), 0, 1) if mean > 0 else np.zeros_like(heat)


def magnification_for(examples: Sequence[Example]) -> int:
    """Choose one magnification for all examples, so that typical perturbations are visible and comparable in size."""
    strength = float(np.median([np.percentile(np.abs(example.change), 99.5) for example in examples] or [VISIBLE]))
    return max([m for m in MAGNIFICATIONS if m * strength <= VISIBLE], default=1)


def choose_models(models: Sequence[Model], names: Sequence[str] = ()) -> list[Model]:
    """Choose the models of the grid.

    Without names, these are at most :data:`MOST_MODELS` models: pairs of a control and its harmonized model, first one
    pair per architecture, then the most accurate model of each family. Models that share no images are skipped.

    Raises:
        ValueError: A named model is not measured, or has no examples.
    """
    usable = {model.name: model for model in models if model.results and model.results.has_examples}
    if missing := [name for name in names if name not in usable]:
        raise ValueError(f"expected a model with examples for the grid, got {missing[0]!r}; try {', '.join(usable)}")
    if names:
        return [usable[name] for name in names]
    paired = [model for model in usable.values() if model.control in usable]
    first = {model.architecture: model for model in reversed(paired)}
    pairs = [(usable[str(m.control)], m) for m in [*reversed(first.values()), *paired]]
    ranked = sorted(usable.values(), key=lambda model: (model.masked, -np.nan_to_num(model.value("accuracy"))))
    best = {model.family: model for model in reversed(ranked)}
    alone = [(best[family],) for family in FAMILIES if family in best]
    chosen: dict[str, Model] = {}
    shared: set[str] = set()
    for group in [*pairs, *alone, *((model,) for model in usable.values())]:
        new = {model.name: model for model in group if model.name not in chosen}
        if not new or len(chosen | new) > MOST_MODELS:
            continue
        keys = [set(model.results.example_keys) for model in new.values() if model.results]
        both = set.intersection(*keys, *[shared] * bool(chosen))
        if len(both) >= min(FEWEST_SHARED, len(keys[0])):
            chosen, shared = chosen | new, both
    return list(chosen.values())


def shared_keys(
    examples: Sequence[Mapping[str, Example]], keys: Sequence[str] = (), most: int = MOST_IMAGES
) -> list[str]:
    """Choose the images of the grid.

    Without ``keys``, these are the first shared examples in the data's order, with equal numbers of animate and
    inanimate images where possible, animate images first.

    Raises:
        ValueError: A requested image is not an example of all the models.
    """
    first = examples[0] if examples else {}
    shared = [key for key in first if all(key in own and own[key].data == first[key].data for own in examples)]
    if missing := [key for key in keys if key not in shared]:
        raise ValueError(f"expected an example of all models of the grid, got {missing[0]!r}; try {', '.join(shared)}")
    if keys:
        return list(keys)
    rank: dict[str, int] = {}
    turns = []
    for key in shared:
        category = first[key].category
        rank[category] = rank.get(category, 0) + 1
        turns.append((rank[category], key))
    kept = {key for _, key in sorted(turns, key=lambda turn: turn[0])[:most]}
    return sorted((key for key in shared if key in kept), key=lambda key: first[key].category)
