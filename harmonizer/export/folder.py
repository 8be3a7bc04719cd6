"""Write a model as a folder of weights, configuration and model card; upload it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from safetensors.torch import save_model
from timm.models import save_for_hf

from harmonizer.evaluation.checkpoint import restore
from harmonizer.export.card import model_card
from harmonizer.files import new_folder
from harmonizer.models import PixelModel, weights_digest
from harmonizer.models.architecture import OWN
from harmonizer.models.folders import FED
from harmonizer.results import load_results
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.untrusted import LONGEST_TEXT, plain_text, shortened


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
        ckpt: Checkpoint of train.py.
        out: Folder to create.
        ema: Export the moving average of the weights.
        results: Results folder of this model, whose scores go into the model card.
        model: Code of the user's own model.
        trust: Run the code that the checkpoint names.

    Returns:
        ``out``.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: The checkpoint is damaged or lacks these weights, or the results belong to other weights.
    """
    module = restore(ckpt, ema=ema, model=model, trust=trust)
    trained = read_checkpoint(ckpt, mmap=True).get("data_sha256", {})
    if not isinstance(trained, Mapping):
        raise ValueError(f"{ckpt}: expected data_sha256 to name folders, got {shortened(trained)}")
    where, source = f"{ckpt}: data_sha256", f"{ckpt}{' (ema=true)' * ema}"
    data = {plain_text(name, where, most=4096): plain_text(value, where) for name, value in trained.items()}
    return _write(module.model, dict(module.hparams), out, results, source=source, data=data)


def export_model(model: PixelModel, out: Path, *, name: str, origin: str, results: Path | None = None) -> Path:
    """Write a model of :func:`harmonizer.load` as a folder.

    Args:
        model: Model with an architecture and an image size.
        out: Folder to create.
        name: Name as typed.
        origin: Origin of the weights, in words.
        results: Results folder of this model, whose scores go into the model card.

    Returns:
        ``out``.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: The results belong to other weights.
    """
    built, size = model.architecture, model.image_size
    assert built is not None and size is not None
    with torch.no_grad():
        count = model.eval()(torch.zeros(1, 3, size, size, device=model.mean.device)).shape[1]
    classes = built.head_details.get("class_names", built.classes)
    settings = {"model": name, "image_size": size, "num_classes": count, "classes": classes, "origin": origin}
    return _write(model, settings, out, results, source=name, data={})


def _write(
    model: PixelModel,
    settings: Mapping[str, Any],
    out: Path,
    results: Path | None,
    *,
    source: str,
    data: Mapping[str, str],
) -> Path:
    """Write weights, configuration and model card, atomically."""
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another place with out=DIR")
    digest = weights_digest(model)
    scores = None if results is None else load_results(results).summary
    if scores is not None and scores["model"].get("weights_sha256") != digest:
        raise ValueError(f"expected results of {source}, got {results}, which belong to other weights")
    with new_folder(out) as folder:
        _write_model(model, settings, folder)
        card = model_card(settings, digest=digest, data=data, scores=scores, built=model.architecture)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return out


def _write_model(model: PixelModel, settings: Mapping[str, Any], folder: Path) -> None:
    """Write weights and ``config.json``, in timm's format for all models."""
    architecture, backbone, size = model.architecture, model.backbone, settings["image_size"]
    assert architecture is not None
    classes = settings["classes"]
    labels: dict[str, Any] = {} if classes is None else {"label_names": list(classes)}
    labels |= {} if architecture.head == OWN else architecture.described_head()
    arguments = dict(architecture.model_args)
    images: dict[str, Any] = {theirs: getattr(architecture, ours) for ours, theirs in FED.items()}
    images["input_size"] = (3, size, size)
    if architecture.kind == "timm":
        config: Any = backbone.pretrained_cfg
        config.update({name: images[name] for name in ("mean", "std", "input_size")})
        arguments |= {"img_size": size} if config.get("fixed_input_size") else {}
        save_for_hf(backbone, str(folder), model_config=labels, model_args=arguments or None, safe_serialization=True)
        return
    folder.mkdir(parents=True)
    save_model(backbone, str(folder / "model.safetensors"))
    description = {
        "architecture": architecture.shown,
        "num_classes": settings.get("num_classes") or len(classes),
        "pretrained_cfg": images,
        "model_args": arguments,
        **labels,
    }
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the Hugging Face Hub, with the token of ``hf auth login``; return its address.

    Args:
        folder: Folder of :func:`export`.
        repository: ``ORG/NAME``; created as private if it does not exist.

    Raises:
        ValueError: The name is malformed, or the Hub refuses it or is unreachable.
    """
    api = HfApi()
    try:
        if repository.count("/") != 1:
            raise ValueError(f"expected ORG/NAME, got {repository}")
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Model, config and card")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:LONGEST_TEXT]
        raise ValueError(f"cannot push {folder} to {repository}: {reason}; the folder is kept") from None
    return str(address)
