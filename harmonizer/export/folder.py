"""Write a model's weights and the description that its name needs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_model
from timm.models import save_for_hf

from harmonizer.evaluation.checkpoint import restore
from harmonizer.export.card import model_card
from harmonizer.files import new_folder
from harmonizer.models import PixelModel, shown, weights_digest
from harmonizer.results import load_results
from harmonizer.training.checkpoint_io import read_checkpoint
from harmonizer.untrusted import plain_text, shortened


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


def _digests(ckpt: Path) -> dict[str, str]:
    """Return the sha256 of the manifests that a checkpoint names, by folder."""
    data = read_checkpoint(ckpt, mmap=True).get("data_sha256", {})
    if not isinstance(data, Mapping):
        raise ValueError(f"{ckpt}: expected data_sha256 to name folders, got {shortened(data)}")
    where = f"{ckpt}: data_sha256"
    return {plain_text(name, where, most=4096): plain_text(value, where) for name, value in data.items()}
