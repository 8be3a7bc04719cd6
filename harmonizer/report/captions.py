"""A caption for each figure: what is shown, for how many models, by which attack, with which error bars and numbers."""

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
    "shared": f"people and attacks in the same colours, each map from 0 to {TIMES_MEAN:g} times its mean",
    "own": "each map on its own scale, from its least value to its 99.5th percentile",
}


def scatter_caption(
    models: Sequence[Model],
    sources: Sequence[Source],
    keys: tuple[str, str],
    correlations: Sequence[Mapping[str, Any]],
    options: PlotOptions,
    titles: Mapping[str, str],
) -> str:
    """Describe a scatter plot of two scores, x and y; ``correlations`` are those that its headline states."""
    shown = [model for model in models if set(keys) <= model.scores.keys()]
    across, up = (titles.get(key, AXES[key].title) for key in keys)
    text = f"{up} against {across} of {len(shown)} models. {_measured(shown, sources)}"
    text += f" Error bars: {BARS[options.bars]}, where they are known."
    for item in correlations:
        group = f" ({item['source']})" if len(correlations) > 1 else ""
        text += f" {correlation_text(item)}{group}; brackets: bootstrap 95 % interval over models."
    if len({model.source for model in shown}) > 1:
        text += " Scores of different protocols cannot be compared."
    if any(model.control for model in shown):
        text += " Arrows: from a control to the model harmonized from it."
    return text


def survival_caption(models: Sequence[Model], sources: Sequence[Source], most_named: int) -> str:
    """Describe the survival curves."""
    measured = [model for model in models if model.results is not None]
    bands = " Bands: Wilson's 95 % intervals." if len(measured) <= most_named else ""
    return (
        f"Share of images that {len(measured)} models still classify correctly after the smallest perturbation found, "
        f"against its L2 norm. {_measured(measured, sources)}{bands}"
    )


def grid_caption(models: Sequence[Model], sources: Sequence[Source], options: PlotOptions) -> str:
    """Describe the grid of examples, with the rules by which its models and images were chosen."""
    which = "pairs of control and harmonized models first, then the most accurate of each family"
    images = f"the first in the data's order that all these models have, {ANIMATE} and {INANIMATE} in turn"
    which, images = "by name" if options.grid else which, "by name" if options.images else images
    names = ", ".join(model.name for model in models)
    return (
        f"Images, human maps, and the perturbations of {names} (chosen: {which}). {_measured(models, sources)} "
        f"Images chosen: {images}. Blue boxes: {ANIMATE}, red: {INANIMATE} classes. Maps: {SCALES[options.map_scale]}. "
        "Under each perturbation: the class that the attacked image is taken for, the L2 norm, and the Spearman "
        "correlation with the human map."
    )


def caption_files(name: str, text: str) -> dict[str, str]:
    """Return a caption as files: plain text, and LaTeX to be included in a figure."""
    tex = latex_text(text.replace("\N{RIGHTWARDS ARROW}", "to"))
    return {f"{name}.txt": text + "\n", f"{name}.tex": f"\\caption{{{tex}}}\n\\label{{fig:{name}}}\n"}


def _measured(models: Sequence[Model], sources: Sequence[Source]) -> str:
    """Name the attacks, or the tables, that the models' scores are from, and their images."""
    names = {model.source for model in models}
    parts = [source.citation or source.protocol for source in sources if source.name in names]
    return f"Measured with: {'; '.join(parts)}." if parts else ""
