"""The model card of an exported folder."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from harmonizer.models.factories import is_code
from harmonizer.results.citations import HARMONIZER


def model_card(
    settings: Mapping[str, Any], *, digest: str, data: Mapping[str, str], scores: Mapping[str, Any] | None
) -> str:
    """Return a model card in Markdown.

    Args:
        settings: Hyper-parameters of the module.
        digest: sha256 of the weights, as results folders name them.
        data: sha256 of the manifests of the training data, by folder.
        scores: Summary of a results folder; None leaves the scores out.
    """
    kind = "harmonized" if settings["harmonize"] else "control"
    is_timm = not is_code(settings["model"]) and not settings["model"].startswith("torchvision:")
    recipe = {name: value for name, value in settings.items() if name not in ("model", "classes", "image_size")}
    lines = [
        "---",
        *(["library_name: timm"] if is_timm else []),
        f"tags: [image-classification, {'timm, ' * is_timm}harmonizer]",
        "---",
        f"# {settings['model']}, {kind}",
        "",
        f"Trained by Harmonizer {'with' if settings['harmonize'] else 'without'} the neural harmonizer loss "
        "(Fel et al. 2022, arXiv 2211.04533).",
        "",
        *_how_to_load(settings["model"]),
        "Images are normalised by the mean and std in `config.json`.",
        "",
        "## Model",
        "",
        f"* architecture: `{settings['model']}`, {settings['image_size']} x {settings['image_size']} pixels, "
        f"{len(settings['classes'])} classes",
        f"* weights: sha256 `{digest}`",
        *(f"* training data {name}: manifest sha256 `{value}`" for name, value in data.items()),
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(recipe, indent=1),
        "```",
        "",
        "## Citation",
        "",
        "```bibtex",
        HARMONIZER.rstrip(),
        "```",
    ]
    if scores is not None:
        lines += ["", "## Scores", "", *_score_lines(scores)]
    return "\n".join(lines) + "\n"


def _how_to_load(name: str) -> list[str]:
    """Return lines of Markdown with the Python that loads the folder."""
    lines = ["import timm", 'model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True).eval()']
    if is_code(name):
        lines = ["import harmonizer", f'model = harmonizer.load("{name}", weights="THIS_FOLDER")']
    elif name.startswith("torchvision:"):
        lines = ["import harmonizer", 'model = harmonizer.load("THIS_FOLDER")  # takes images in [0,1]']
    return ["```python", *lines, "```"]


def _score_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the rows of the table of scores."""
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
    """Return value, interval and number of images of an aggregate, of which each may be missing or undefined."""
    if block is None or np.isnan(block[key]):
        return ["none", "", "0"]
    ends = "" if np.isnan(block["low"]) else f"{block['low']:.4f} to {block['high']:.4f}"
    return [f"{block[key]:.4f}", ends, str(block["n"])]
