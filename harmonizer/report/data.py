"""Models with their scores, from results folders or published tables."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from harmonizer.cli.console import Bars
from harmonizer.report.sources import DECISION, Source, measured_sources, source_key
from harmonizer.results import Results, load_results
from harmonizer.results.families import FAMILIES, guess_family, trained_family
from harmonizer.results.rows import Columns
from harmonizer.statistics import NOISE_CEILING

Z95 = 1.959964  # half width of a normal 95 % interval, in standard errors


@dataclass(frozen=True)
class Score:
    """A number with its uncertainty; NaN where unknown."""

    value: float  # in the units of its axis
    se: float = np.nan  # standard error over images
    low: float = np.nan  # lower end of the 95 % interval
    high: float = np.nan  # upper end
    n: int = 0  # number of images averaged; 0 if unknown

    @classmethod
    def of(cls, summary: Mapping[str, Any], name: str, scale: float = 1.0) -> "Score":
        """Return the score of a summary of ``harmonizer.statistics``, multiplied by ``scale``."""
        value, se, low, high = (float(summary[key]) * scale for key in (name, "se", "low", "high"))
        return cls(value, se, low, high, summary["n"])

    @classmethod
    def with_error(cls, value: float, se: float, n: int = 0) -> "Score":
        """Return a score with the normal interval of its standard error."""
        return cls(value, se, value - Z95 * se, value + Z95 * se, n)


@dataclass(frozen=True)
class Axis:
    """A score that a figure can show."""

    title: str  # title of the axis, with its unit
    short: str  # title of the column of a table
    digits: int  # decimal places


AXES = {
    "accuracy": Axis("Accuracy (%)", "Accuracy (%)", 1),
    "tolerance": Axis("Perturbation tolerance (L2 radius)", "Tolerance (L2)", 3),
    "alignment": Axis("Adversarial alignment (share of noise ceiling)", "Adversarial alignment", 3),
    "feature_alignment": Axis("Feature alignment (share of noise ceiling)", "Feature alignment", 3),
}

# Shown in addition where input sizes differ: the L2 norm of the same change of each pixel grows with the size.
RMS = {"tolerance_rms": Axis("Perturbation tolerance (root mean square change, of 255)", "Tolerance (RMS of 255)", 2)}

CORRELATED = ("accuracy", "tolerance", "alignment")


@dataclass(frozen=True)
class Model:
    """A model: one row of the table and one point of a figure."""

    name: str  # name shown; unique within its source
    architecture: str  # timm's name
    family: str  # one of `FAMILIES`
    source: str  # name of the `Source` of its scores; scores of different sources are not comparable
    scores: Mapping[str, Score] = field(default_factory=dict)  # measured scores by the keys of `AXES` and `RMS`
    control: str | None = None  # name of its control, the same model without harmonization, if that is in the report
    results: Results | None = None  # results folder of a model measured here
    # whether its accuracy is measured here or from its own table, because the given table of accuracies lacks it
    own_accuracy: bool = False

    def value(self, axis: str) -> float:
        """Return the value of a score, NaN if it was not measured."""
        return self.scores[axis].value if axis in self.scores else np.nan

    @property
    def columns(self) -> Columns:
        """The per-image rows of a measured model."""
        if self.results is None:
            raise ValueError(f"expected a model with per-image results, {self.name!r} has none")
        return self.results.columns

    @property
    def summary(self) -> Mapping[str, Any]:
        """The summary of a measured model; empty for published scores."""
        return self.results.summary if self.results else {}

    @property
    def training(self) -> Mapping[str, Any]:
        """The settings of a model trained here; empty for others."""
        return self.summary.get("training") or {}

    @property
    def attack(self) -> str:
        """The attack of the measurement; empty for published scores."""
        return str(self.summary["protocol"]["attack"]) if self.summary else ""

    @property
    def masked(self) -> bool:
        """Whether the gradient-masking report flags the model, so that its tolerance cannot be trusted."""
        return bool((self.summary.get("health") or {}).get("masked"))


def load_models(folders: Sequence[Path]) -> tuple[list[Model], list[Source]]:
    """Read results folders as models, each harmonized model with its control, and their sources.

    Raises:
        ValueError: Folders are damaged; the message names each with its reason.
    """
    loaded, problems = [], []
    with Bars() as bars:
        task = bars.task("model")
        for i, folder in enumerate(folders):
            task.update("reading results", i, len(folders))
            try:
                results = load_results(folder)
                _ = results.columns
                source_key(results.summary, f"{folder}: ")
                loaded.append(results)
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    sources = measured_sources([results.summary for results in loaded])
    models = [_measured(results, sources[source_key(results.summary)].name) for results in loaded]
    return _paired(_distinct(models)), list(sources.values())


def input_sizes(models: Sequence[Model]) -> list[int]:
    """Return the distinct input sizes of the measured models, in pixels."""
    return sorted({model.summary["model"]["input_size"] for model in models if model.results is not None})


def comparable(
    models: Sequence[Model], axes: Iterable[str] = CORRELATED, value: Callable[[Model, str], float] = Model.value
) -> list[Model]:
    """Return the models that have every score that any model of their source has.

    Tables, figures, statistics and the web page use this function, so that all correlations are over the same models;
    figures show the other models in grey.
    """
    scores = {id(model): {axis: value(model, axis) for axis in axes} for model in models}
    had = {(model.source, axis) for model in models for axis, score in scores[id(model)].items() if not np.isnan(score)}
    return [
        model
        for model in models
        if not any(np.isnan(score) and (model.source, axis) in had for axis, score in scores[id(model)].items())
    ]


def score_range(score: Score, bars: str) -> tuple[float, float]:
    """Return the ends of an error bar; ``bars`` is "se" or "interval"."""
    if bars == "se":
        return score.value - score.se, score.value + score.se
    return score.low, score.high


def ceiling_of(results: Results, axis: str) -> float:
    """Return the noise ceiling of ``alignment`` or ``feature_alignment``: that of the data, or the published one."""
    block = results.summary.get("feature_alignment" if axis == "feature_alignment" else "adversarial_alignment") or {}
    return float(block.get("ceiling", NOISE_CEILING))


def _measured(results: Results, source: str) -> Model:
    """Return the model of a results folder."""
    summary, model = results.summary, results.summary["model"]
    scores = {
        "accuracy": Score.of(summary["accuracy"], "value", 100),
        "tolerance": Score.of(summary["tolerance"]["restricted_mean"], "mean"),
        "tolerance_rms": Score.of(
            summary["tolerance"]["restricted_mean"], "mean", 255 / (sqrt(3) * model["input_size"])
        ),
    }
    for axis, block in (("alignment", "adversarial_alignment"), ("feature_alignment", "feature_alignment")):
        if summary.get(block) is not None and ceiling_of(results, axis) > 0:
            scores[axis] = Score.of(summary[block], "mean", 1 / ceiling_of(results, axis))
    protocol, asked = summary["protocol"], summary.get("scores") or {}
    if (protocol["attack"], protocol.get(DECISION)) == ("feng2025", "animate"):
        scores.pop("alignment", None)  # the published table uses another attack map
        if "feng2025" in asked:
            scores["alignment"] = Score.of(asked["feng2025"], "mean", 1 / asked["feng2025"]["ceiling"])
    training = summary.get("training")
    family = model["family"] if model["family"] in FAMILIES[:-1] else guess_family(model["name"])
    if training is not None:
        family = trained_family(training)
    return Model(model["label"], model["name"], family, source, scores, results=results)


def _distinct(models: Sequence[Model]) -> list[Model]:
    """Append the folder to names that occur twice."""
    counts = Counter((model.source, model.name) for model in models)

    def named(model: Model) -> Model:
        if counts[model.source, model.name] == 1 or model.results is None:
            return model
        return replace(model, name=f"{model.name} ({model.results.folder.name})")

    return [named(model) for model in models]


def _paired(models: Sequence[Model]) -> list[Model]:
    """Set the control of each harmonized model: same architecture, seed, protocol and training attack, without maps."""
    controls = {_twin(model): model.name for model in models if model.training and not model.training["harmonize"]}
    return [
        replace(model, control=controls.get(_twin(model))) if model.family == "harmonized" else model
        for model in models
    ]


def _twin(model: Model) -> tuple[Any, ...]:
    """Return the properties that a harmonized model shares with its control."""
    training = model.training
    attack = training.get("adversarial", "none")
    radius = None if attack == "none" else training.get("adversarial_eps")  # without an attack it has no effect
    return model.source, model.architecture, training.get("seed"), attack, radius
