"""The model card of an exported folder."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from harmonizer.models.architecture import Architecture
from harmonizer.models.factories import is_code
from harmonizer.results.citations import HARMONIZER
from harmonizer.results.families import SUPERVISIONS, condition


def model_card(
    settings: Mapping[str, Any],
    *,
    digest: str,
    data: Mapping[str, str],
    scores: Mapping[str, Any] | None,
    built: Architecture | None = None,
) -> str:
    """Return a model card in Markdown.

    Args:
        settings: Hyper-parameters of the module; for a model that was not trained here, ``model``, ``image_size``,
            ``num_classes``, ``classes`` and ``origin``.
        digest: sha256 of the weights, as in results folders.
        data: sha256 of the training data's manifests, by folder.
        scores: Summary of a results folder; None omits the scores.
        built: Architecture of the model; None derives it from the name.
    """
    name, size = settings["model"], settings["image_size"]
    is_timm = not is_code(name) and not name.startswith("torchvision:") if built is None else built.kind == "timm"
    count = settings.get("num_classes") or len(settings["classes"])
    head = {} if built is None else built.head_details
    recipe = {name: value for name, value in settings.items() if name not in ("model", "classes", "image_size")}
    lines = [
        "---",
        *(["library_name: timm"] if is_timm else []),
        f"tags: [image-classification, {'timm, ' * is_timm}harmonizer]",
        "---",
        *_origin(settings),
        "",
        *_how_to_load(name, built),
        "Images are normalised by the mean and std in `config.json`.",
        "",
        "## Model",
        "",
        f"* architecture: `{name}`, {size} x {size} pixels, {count} classes",
        f"* weights: sha256 `{digest}`",
        *([f"* head: {built.head}"] if built is not None and head else []),
        *(f"* {key}: `{json.dumps(value)}`" for key, value in head.items()),
        *(f"* training data {name}: manifest sha256 `{value}`" for name, value in data.items()),
        "",
        *(["## Recipe", "", "```json", json.dumps(recipe, indent=1), "```", ""] if "harmonize" in settings else []),
        "## Citation",
        "",
        "```bibtex",
        HARMONIZER.rstrip(),
        "```",
    ]
    if scores is not None:
        lines += ["", "## Scores", "", *_score_lines(scores)]
    return "\n".join(lines) + "\n"


def _origin(settings: Mapping[str, Any]) -> list[str]:
    """Return the title and the origin of the model."""
    if "harmonize" not in settings:
        return [
            f"# {settings['model']}",
            "",
            f"Exported by Harmonizer, which did not train it. Weights: {settings['origin']}, under their own license.",
        ]
    kind = condition(settings)
    how = "with" if kind == "harmonized" else "without"
    trained = f"Trained by Harmonizer {how} the neural harmonizer loss (Fel et al. 2022, arXiv 2211.04533)."
    if settings["harmonize"] and kind != "harmonized":
        trained = f"Trained by Harmonizer with the explanation supervision `{kind}`: {SUPERVISIONS[kind]}."
    return [f"# {settings['model']}, {kind}", "", trained]


def _how_to_load(name: str, built: Architecture | None) -> list[str]:
    """Return Markdown with the Python code that loads the folder."""
    lines = ["import timm", 'model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True).eval()']
    if is_code(name):
        # The arguments of a user's own function are not read from the folder.
        given = f", model_args={dict(built.model_args)!r}" if built is not None and built.model_args else ""
        lines = ["import harmonizer", f'model = harmonizer.load("{name}", weights="THIS_FOLDER"{given})']
    elif name.startswith("torchvision:") or (built is not None and built.kind != "timm"):
        lines = ["import harmonizer", 'model = harmonizer.load("THIS_FOLDER")  # takes images in [0,1]']
    return ["```python", *lines, "```"]


def _score_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the table of scores."""
    protocol, tolerance = summary["protocol"], summary["tolerance"]
    rows = {
        "accuracy": (summary["accuracy"], "value"),
        f"perturbation tolerance, mean of min(L2, {protocol['eps_max']:g})": (tolerance["restricted_mean"], "mean"),
        "perturbation tolerance, median L2": (tolerance["median"], "value"),
        "adversarial alignment, Spearman": (summary["adversarial_alignment"], "mean"),
        "feature alignment, Spearman": (summary["feature_alignment"], "mean"),
    }
    return [
        f"Attack `{protocol['attack']}`, {protocol['images']} images of `{summary['data']['name']}` "
        f"(manifest sha256 `{summary['data']['manifest_sha256']}`, protocol `{protocol['hash']}`).",
        "",
        "| score | value | 95 % interval | images |",
        "|---|---:|---:|---:|",
        *(f"| {name} | {' | '.join(_score_cells(block, key))} |" for name, (block, key) in rows.items()),
    ]


def _score_cells(block: Mapping[str, Any] | None, key: str) -> list[str]:
    """Return value, interval and number of images of an aggregate, which may be missing or undefined."""
    if block is None or np.isnan(block[key]):
        return ["none", "", "0"]
    ends = "" if np.isnan(block["low"]) else f"{block['low']:.4f} to {block['high']:.4f}"
    return [f"{block[key]:.4f}", ends, str(block["n"])]
