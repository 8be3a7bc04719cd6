"""Captions of the figures: scores, number of models, attack, error bars and correlations."""

from collections.abc import Mapping, Sequence
from typing import Any

from harmonizer.report.data import AXES, Model
from harmonizer.report.examples import TIMES_MEAN
from harmonizer.report.sources import Source
from harmonizer.report.style import PlotOptions
from harmonizer.report.tables import correlation_text, latex_text
from harmonizer.results.categories import ANIMATE, INANIMATE

BARS = {"interval": "95 % intervals over images", "se": "one standard error over images"}
SCALES = {
    "shared": f"the same colours for people and attacks, from 0 to {TIMES_MEAN:g} times the mean of each map",
    "own": "the colours of each map from its minimum to its 99.5th percentile",
}


def scatter_caption(
    models: Sequence[Model],
    sources: Sequence[Source],
    keys: tuple[str, str],
    correlations: Sequence[Mapping[str, Any]],
    options: PlotOptions,
    titles: Mapping[str, str],
) -> str:
    """Return the caption of a scatter plot of two scores, x and y; ``correlations`` are those of its headline."""
    shown = [model for model in models if set(keys) <= model.scores.keys()]
    across, up = (titles.get(key, AXES[key].title) for key in keys)
    text = f"{up} against {across} of {len(shown)} models. {_measured(shown, sources)}"
    text += f" Error bars: {BARS[options.bars]}, where known."
    for item in correlations:
        group = f" ({item['source']})" if len(correlations) > 1 else ""
        text += f" {correlation_text(item)}{group}; brackets: bootstrap 95 % interval over models."
    if len({model.source for model in shown}) > 1:
        text += " Scores of different protocols cannot be compared."
    if any(model.control for model in shown):
        text += " Arrows: from a control to its harmonized model."
    return text


def survival_caption(models: Sequence[Model], sources: Sequence[Source], most_named: int) -> str:
    """Return the caption of the survival curves."""
    measured = [model for model in models if model.results is not None]
    bands = " Bands: Wilson's 95 % intervals." if len(measured) <= most_named else ""
    return (
        f"Share of images that {len(measured)} models still classify correctly at each L2 radius, by the smallest "
        f"perturbations found. {_measured(measured, sources)}{bands}"
    )


def grid_caption(models: Sequence[Model], sources: Sequence[Source], options: PlotOptions) -> str:
    """Return the caption of the grid of examples, with the rules by which its models and images were chosen."""
    which = "pairs of control and harmonized models first, then the most accurate of each family"
    images = f"the first in the data's order among those of all these models, {ANIMATE} and {INANIMATE} in turn"
    which, images = "by name" if options.grid else which, "by name" if options.images else images
    names = ", ".join(model.name for model in models)
    return (
        f"Images, human maps, and the attack maps of {names} (chosen: {which}). {_measured(models, sources)} "
        f"Images chosen: {images}. Blue boxes: {ANIMATE}, red: {INANIMATE} classes. Maps: {SCALES[options.map_scale]}. "
        "Below each attack map: the predicted class of the attacked image, the L2 norm of the perturbation, and the "
        "Spearman correlation with the human map."
    )


def caption_files(name: str, text: str) -> dict[str, str]:
    """Return the files of a caption: plain text, and LaTeX for a figure."""
    tex = latex_text(text.replace("\N{RIGHTWARDS ARROW}", "to"))
    return {f"{name}.txt": text + "\n", f"{name}.tex": f"\\caption{{{tex}}}\n\\label{{fig:{name}}}\n"}


def _measured(models: Sequence[Model], sources: Sequence[Source]) -> str:
    """Return the sentence that names the protocols or tables of the models' scores."""
    names = {model.source for model in models}
    parts = [source.citation or source.protocol for source in sources if source.name in names]
    return f"Measured with: {'; '.join(parts)}." if parts else ""
