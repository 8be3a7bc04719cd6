"""Published tables: scores of models, and their ImageNet accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harmonizer.report.data import Model, Score
from harmonizer.report.sources import Source, measure_of
from harmonizer.results.cells import read_table
from harmonizer.results.families import FAMILIES, guess_family

KNOWN = {  # by file stem, details that a published table does not contain
    "feng2025_l2fmn": {
        "name": "Feng et al. 2025",
        "attack": "feng2025",
        "decision": "animate",  # the attack changes the superclass of ImageNet's classes, animate or inanimate
        "protocol": "foolbox's L2FMN attack, 1000 steps, smallest L2 radius that changes the decision between animate "
        "and inanimate classes; as published",
        "images": "240",  # all 351 standard errors are the standard deviations of the table over sqrt(240)
        "citation": "Feng, Linsley et al. 2025, Beyond adversarial robustness, ICLR Re-Align workshop",
    }
}
EXTERNAL = ("model", "pt", "aa", "pt_sem", "aa_sem")
COMMENTS = ("citation", "name", "protocol", "attack", "decision", "images")


def read_external(path: Path) -> tuple[list[Model], Source]:
    """Read a table of published scores, which becomes a source.

    The table is CSV with the columns model, pt (mean minimal L2 radius), aa (alignment over the noise ceiling), pt_sem,
    aa_sem (standard errors), and optionally family, top1 (accuracy in %) and control (the control of a harmonized
    model). Comment lines before the header describe the table: ``# citation:``, ``# name:`` (the name shown),
    ``# protocol:`` (a description), ``# attack:`` and ``# decision:`` (names of this package; own models with the same
    ones are ranked among the table's), ``# images:`` (the number of images averaged). A line without such a key
    continues the citation.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A column is missing, a cell is not a number, or a model occurs twice; the message names the place.
    """
    lines, comments = read_table(path, EXTERNAL)
    details = _details(path, comments)
    if not details.get("images", "0").isdecimal():
        raise ValueError(f"{path}: expected a number after # images:, got {details['images']!r}")
    images, citation = int(details.get("images", 0)), details.get("citation", path.name)  # 0 images: unknown
    measure = measure_of(details["attack"], details.get("decision")) if "attack" in details else ()
    name, protocol = details.get("name", citation.partition(",")[0]), details.get("protocol", "as published")
    source = Source(name, citation, protocol, measure)
    models: dict[str, Model] = {}
    for number, line in lines:
        name = line["model"]
        if not name or name in models:
            raise ValueError(f"{path}, line {number}, column model: expected each model once, got {name!r}")
        family = line.get("family") or guess_family(name)
        if family not in FAMILIES:
            raise ValueError(
                f"{path}, line {number}, column family: expected one of {', '.join(FAMILIES)}, got {family!r}"
            )
        value = {column: _number(path, number, line, column) for column in (*EXTERNAL[1:], "top1")}
        scores = {
            "accuracy": Score(value["top1"]),
            "tolerance": Score.with_error(value["pt"], value["pt_sem"], images),
            "alignment": Score.with_error(value["aa"], value["aa_sem"], images),
        }
        known = {axis: score for axis, score in scores.items() if not np.isnan(score.value)}
        models[name] = Model(name, name, family, source.name, known, control=line.get("control") or None)
    for model in models.values():
        if model.control is not None and model.control not in models:
            raise ValueError(f"{path}, column control: expected a model of the table, got {model.control!r}")
    return list(models.values()), source


def read_accuracy(path: Path) -> dict[str, float]:
    """Read top-1 accuracy in % by model from a table in timm's format: columns model and top1.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A column is missing, or a cell is not a percentage; the message names line and column.
    """
    lines, _ = read_table(path, ("model", "top1"))
    accuracy = {line["model"]: _number(path, number, line, "top1") for number, line in lines}
    if wrong := [name for name, value in accuracy.items() if not 0 <= value <= 100]:
        raise ValueError(f"{path}, column top1: expected 0 to 100 %, got {accuracy[wrong[0]]:g} for {wrong[0]}")
    return accuracy


def with_accuracy(models: Sequence[Model], accuracy: Mapping[str, float]) -> tuple[list[Model], list[str]]:
    """Replace the accuracy of models by that of a table, matched by name.

    Models trained here are matched by their full name only, not by their architecture. A model without a match keeps
    its own accuracy and is marked.

    Returns:
        The models, and the names of those without accuracy.
    """
    matched, unmatched = [], []
    for model in models:
        value = accuracy.get(model.name, np.nan if model.training else accuracy.get(model.architecture, np.nan))
        if not np.isnan(value):
            matched.append(replace(model, scores={**model.scores, "accuracy": Score(value)}))
        elif np.isnan(model.value("accuracy")):
            unmatched.append(model.name)
            matched.append(model)
        else:
            matched.append(replace(model, own_accuracy=True))
    return matched, unmatched


def _details(path: Path, comments: Sequence[str]) -> dict[str, str]:
    """Return the description of a table: its comments, which override the known details of published tables."""
    details: dict[str, str] = {}
    for comment in comments:
        key, colon, text = comment.partition(":")
        known = colon and key in COMMENTS
        key, text = (key, text.strip()) if known else ("citation", comment)
        details[key] = " ".join(filter(None, [details.get(key), text]))
    return KNOWN.get(path.stem, {}) | details


def _number(path: Path, number: int, line: Mapping[str, str], column: str) -> float:
    """Return a cell as a number, NaN if it is empty or its optional column is missing."""
    cell = line.get(column, "")
    try:
        value = float(cell or "nan")
    except ValueError:
        value = np.inf
    if np.isinf(value):
        raise ValueError(f"{path}, line {number}, column {column}: expected a number, got {cell!r}")
    return value
