"""Write a trained model as a folder that is a name: ``python -m harmonizer.export ckpt=FILE [out=DIR] [results=DIR]``.

The folder holds ``model.safetensors``, ``config.json`` and a model card, ``README.md``. ``evaluate.py --model DIR``
measures it. timm loads its own models by ``timm.create_model("local-dir:DIR", pretrained=True)``, or the weights alone
by ``checkpoint_path=``.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from safetensors.torch import save_model
from timm.models import save_for_hf

from harmonizer.cli import clear_errors, translate, unquoted
from harmonizer.evaluation.checkpoint import find_checkpoint, restore
from harmonizer.files import new_folder
from harmonizer.models import PixelModel, shown, weights_digest
from harmonizer.models.factories import is_code
from harmonizer.results import load_results
from harmonizer.results.citations import HARMONIZER
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.untrusted import LONGEST_TEXT, plain_text, shortened

OPTIONS = ("ckpt", "out", "ema", "results", "model", "trust", "push")
USAGE = (
    "usage: python -m harmonizer.export ckpt=FILE [out=DIR] [ema=true] [results=DIR] [model=FILE.py:FUNCTION] "
    "[push=ORG/NAME]"
)


def export(
    ckpt: Path,
    out: Path,
    *,
    ema: bool = False,
    results: Path | None = None,
    model: str | None = None,
    trust: bool = False,
) -> Path:
    """Write a checkpoint's model as a folder.

    Args:
        ckpt: File that train.py wrote.
        out: Folder to make.
        ema: Take the moving average of the weights.
        results: Folder that evaluate.py wrote for this model; its scores go into the model card.
        model: Code of the model, where it is of the user's own.
        trust: Run the code that the checkpoint names.

    Returns:
        ``out``.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: The checkpoint is damaged or has no such weights, or the results are of other weights.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another place with out=DIR")
    module = restore(ckpt, ema=ema, model=model, trust=trust)
    settings = dict(module.hparams)
    digest = weights_digest(module.model)
    scores = None if results is None else load_results(results).summary
    if scores is not None and scores["model"].get("weights_sha256") != digest:
        raise ValueError(f"{results} was measured on other weights than {ckpt}{' (ema=true)' * ema}")
    with new_folder(out) as folder:
        _write_model(module.model, settings, folder)
        card = model_card(settings, digest=digest, data=_digests(ckpt), scores=scores)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return out


def _write_model(model: PixelModel, settings: Mapping[str, Any], folder: Path) -> None:
    """Write weights and ``config.json``: timm's own for its models, in the same form for others."""
    architecture, backbone, size = model.architecture, model.backbone, settings["image_size"]
    assert architecture is not None
    labels = {"label_names": list(settings["classes"])}
    arguments = dict(architecture.model_args)
    images: dict[str, Any] = {
        "mean": list(architecture.mean),
        "std": list(architecture.std),
        "input_size": (3, size, size),
    }
    if architecture.kind == "timm":
        config: Any = backbone.pretrained_cfg
        config.update(images)
        arguments |= {"img_size": size} if config.get("fixed_input_size") else {}
        save_for_hf(backbone, str(folder), model_config=labels, model_args=arguments or None, safe_serialization=True)
        return
    folder.mkdir(parents=True)
    save_model(backbone, str(folder / "model.safetensors"))
    images |= {"crop_pct": architecture.crop_ratio, "interpolation": architecture.interpolation}
    description = {
        "architecture": shown(architecture),
        "num_classes": len(settings["classes"]),
        "pretrained_cfg": images,
        "model_args": arguments,
        **labels,
    }
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the Hugging Face Hub, with the token of ``hf auth login``; return its address.

    Args:
        folder: Made by :func:`export`.
        repository: ``ORG/NAME``; made, private, where there is none.

    Raises:
        ValueError: The name is malformed, or the Hub refuses it or cannot be reached.
    """
    api = HfApi()
    try:
        if repository.count("/") != 1:
            raise ValueError(f"expected ORG/NAME, got {repository}")
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Model, config and card")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:LONGEST_TEXT]
        raise ValueError(f"cannot push {folder} to {repository}: {reason}; it is still there") from None
    return str(address)


def _digests(ckpt: Path) -> dict[str, str]:
    """Return the sha256 of the manifests that a checkpoint names, by folder."""
    data = read_checkpoint(ckpt, mmap=True).get("data_sha256", {})
    if not isinstance(data, Mapping):
        raise ValueError(f"{ckpt}: expected data_sha256 to name folders, got {shortened(data)}")
    where = f"{ckpt}: data_sha256"
    return {plain_text(name, where, most=4096): plain_text(value, where) for name, value in data.items()}


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


@clear_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Export as the command line says."""
    words = translate(sys.argv[1:] if arguments is None else arguments)
    if any(word in ("-h", "--help") for word in words):
        sys.stdout.write(f"{USAGE}\n")
        return
    options = {name: unquoted(value) for name, _, value in (word.partition("=") for word in words)}
    unknown = options.keys() - set(OPTIONS)
    if options.get("weights") in ("raw", "ema"):
        raise ValueError(f"weights={options['weights']} is now ema={str(options['weights'] == 'ema').lower()}")
    if unknown or "ckpt" not in options:
        raise ValueError(
            f"expected ckpt=FILE and of {', '.join(OPTIONS[1:])}, got {' '.join(words) or 'nothing'}; {USAGE}"
        )
    ckpt = find_checkpoint(options["ckpt"])
    out = Path(options.get("out", ckpt.parent / "export"))
    results = Path(options["results"]) if "results" in options else None
    ema, trust = (options.get(name, "false").lower() == "true" for name in ("ema", "trust"))
    export(ckpt, out, ema=ema, results=results, model=options.get("model"), trust=trust)
    sys.stdout.write(f"model: {out}\n")
    if "push" in options:
        sys.stdout.write(f"pushed: {push(out, options['push'])}\n")


if __name__ == "__main__":
    main()
