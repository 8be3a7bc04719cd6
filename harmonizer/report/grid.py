"""The qualitative grid: images, where people look, and how each model's perturbation compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harmonizer.report.data import Model
from harmonizer.report.style import COLORS, new_figure

Pictures = NDArray[np.float64]
CELL, LETTER = 1.1, 0.072  # inches: a picture and its gap; a letter of a row's name
MOST_MODELS, MOST_IMAGES = 4, 6
MAGNIFICATIONS = (1, 2, 5, 10, 20, 50, 100)
VISIBLE = 0.25  # change of a pixel, of 1, that the magnified perturbation should reach
HEAT = "inferno"


@dataclass(frozen=True)
class Example:
    """One attacked image.

    Attributes:
        key: The sample's name.
        data: Digest of the data set that has it: other data may have another image of that name.
        image: (H,W,3) in [0,1].
        human: (H,W) map, scaled to [0,1].
        change: (H,W,3) adversarial - image.
        radius: L2 norm of the change.
    """

    key: str
    data: str
    image: Pictures
    human: Pictures
    change: Pictures
    radius: float

    @property
    def attack_map(self) -> Pictures:
        """The attack map |mean over channels of change|, scaled to [0,1] between its extremes' 99th percentile."""
        return scaled(np.abs(self.change.mean(2)))

    def attacked(self, magnification: float) -> Pictures:
        """The attacked image with its perturbation magnified."""
        return np.clip(self.image + magnification * self.change, 0, 1)

    def overlaid(self) -> Pictures:
        """The image, darkened where people do not look."""
        return overlay(self.image, self.human)


def read_examples(model: Model, most: int | None = None) -> dict[str, Example]:
    """Read the attacked examples of a measured model by key; none when it kept none."""
    arrays = model.results.examples if model.results is not None else {}
    if not arrays:
        return {}
    image = np.moveaxis(arrays["image"][:most].astype(float), 1, -1)
    change = np.moveaxis(arrays["adversarial"][:most].astype(float), 1, -1) - image
    human = arrays["human"][:most].astype(float)
    data = str(model.results.summary["data"]["manifest_sha256"]) if model.results is not None else ""
    return {
        str(key): Example(str(key), data, image[i], scaled(human[i]), change[i], float(np.linalg.norm(change[i])))
        for i, key in enumerate(arrays["keys"][:most])
    }


def scaled(heat: Pictures) -> Pictures:
    """Scale a map from its least value and its 99.5th percentile to [0,1]; a constant map is zero."""
    low, high = heat.min(), np.percentile(heat, 99.5)
    if high <= low:
        high = heat.max()
    return np.clip((heat - low) / (high - low), 0, 1) if high > low else np.zeros_like(heat)


def overlay(image: Pictures, heat: Pictures) -> Pictures:
    """Keep an image's colours where a map is high, and darken and grey it elsewhere."""
    grey = image.mean(2, keepdims=True)
    weight = heat[..., None] ** 0.7
    blended: Pictures = weight * image + (1 - weight) * (0.35 * grey)
    return blended


def magnification_for(examples: Sequence[Example]) -> int:
    """Choose one magnification for all, so that the typical perturbation is visible and sizes can be compared."""
    strength = float(np.median([np.percentile(np.abs(example.change), 99.5) for example in examples] or [VISIBLE]))
    return max([m for m in MAGNIFICATIONS if m * strength <= VISIBLE], default=1)


def choose_models(models: Sequence[Model], names: Sequence[str] = ()) -> list[Model]:
    """Choose the models of the grid: those named, else controls and the models harmonized from them, else the first.

    Raises:
        ValueError: A named model is not among the measured ones with examples.
    """
    usable = {model.name: model for model in models if model.results and model.results.has_examples}
    if missing := [name for name in names if name not in usable]:
        raise ValueError(f"expected a model with examples for the grid, got {missing[0]!r}; try {', '.join(usable)}")
    if names:
        return [usable[name] for name in names]
    pairs = [name for model in usable.values() if model.control in usable for name in (model.control, model.name)]
    return [usable[name] for name in dict.fromkeys([*pairs, *usable])][:MOST_MODELS]


def shared_keys(examples: Sequence[Mapping[str, Example]], keys: Sequence[str] = ()) -> list[str]:
    """Choose the images of the grid: those asked for, else the first ones that all models have as examples.

    Raises:
        ValueError: An image that was asked for is not an example of all the models.
    """
    first = examples[0] if examples else {}
    shared = [key for key in first if all(key in own and own[key].data == first[key].data for own in examples)]
    if missing := [key for key in keys if key not in shared]:
        raise ValueError(f"expected an example of all models of the grid, got {missing[0]!r}; try {', '.join(shared)}")
    return list(keys) or shared[:MOST_IMAGES]


def qualitative_grid(models: Sequence[Model], keys: Sequence[str] = ()) -> Figure | None:
    """Draw the images that all models were attacked on, a column an image.

    Rows: the image; the same where people look; then for each model the attacked image with its perturbation magnified
    (the factor is stated), and its attack map.

    Args:
        models: With examples.
        keys: Images to show, in place of the first ones that the models share.

    Returns:
        The figure, or None when the models share no example.

    Raises:
        ValueError: A key is not an example of all the models.
    """
    examples = [read_examples(model) for model in models]
    shown = shared_keys(examples, keys)
    if not shown:
        return None
    factor = magnification_for([own[key] for own in examples for key in shown])
    first = examples[0]
    rows: list[tuple[str, str, list[Pictures], list[str]]] = [
        ("Image", "#222222", [first[key].image for key in shown], [""] * len(shown)),
        ("Human", "#222222", [first[key].overlaid() for key in shown], [""] * len(shown)),
    ]
    for model, own in zip(models, examples, strict=True):
        color = COLORS[model.family]
        radii = [f"{own[key].radius:.2f}" for key in shown]
        rows.append((f"{model.name}\nattacked", color, [own[key].attacked(factor) for key in shown], radii))
        rows.append(("attack map", color, [own[key].attack_map for key in shown], [""] * len(shown)))
    margin = 0.25 + LETTER * max(len(line) for label, *_ in rows for line in label.split("\n"))
    figure = new_figure(CELL * len(shown) + margin, CELL * len(rows) + 0.35, pad=0.015)
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    for line, (label, color, pictures, radii) in zip(axes, rows, strict=True):
        for cell, picture, radius in zip(line, pictures, radii, strict=True):
            cell.imshow(picture, cmap=HEAT, vmin=0, vmax=1, interpolation="nearest")
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set_visible(False)
            if radius:
                box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.2}
                cell.text(0.97, 0.04, radius, transform=cell.transAxes, fontsize=6.5, ha="right", bbox=box)
        text = line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7.5, color=color)
        text.set_parse_math(False)
    caption = f"perturbations magnified {factor}\N{MULTIPLICATION SIGN}; numbers are their L2 radii"
    figure.supxlabel(caption, x=0.99, ha="right", fontsize=7.5, color="#555555")
    return figure
