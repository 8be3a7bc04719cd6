"""Model folders: from ``harmonizer.export``, timm's ``save_for_hf`` and the Hugging Face Hub."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harmonizer.data.transforms import CROP_MODES, INTERPOLATIONS
from harmonizer.models import clip_zoo, factories, timm_zoo, torchvision_zoo
from harmonizer.models.architecture import HEADS, Architecture
from harmonizer.untrusted import parse_json, plain_text, shortened

CONFIG = "config.json"
CONVERTED = "converted_from"  # key that convert_weights adds: the file and its sha256
MOST_BYTES = 10**7  # largest size of config.json
DECIDED = ("img_size", "num_classes", "in_chans")  # arguments that follow from other fields
FED = {  # ours, timm's
    "mean": "mean",
    "std": "std",
    "crop_ratio": "crop_pct",
    "interpolation": "interpolation",
    "crop_mode": "crop_mode",
}


def resolve(folder: Path, name: str) -> Architecture:
    """Return the architecture that a folder's ``config.json`` describes, with the folder as its weights.

    Nothing in the folder is imported: the user must name code again.

    Args:
        folder: Folder with ``config.json`` and weights; see :func:`harmonizer.models.weights.read_weights`.
        name: Name as typed, for messages.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: It does not describe a model that can be built here.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; expected an exported folder, or one in timm's format")
    path = folder / CONFIG
    if not path.is_file():
        others = sorted(str(file) for file in folder.glob("*.ckpt"))
        raise FileNotFoundError(f"no {CONFIG} in {folder}{'; it holds ' * bool(others)}{', '.join(others[:3])}")
    config = read_config(path)
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        other = "model_type" in config or "architectures" in config
        hint = "; it is a transformers model: load it in your own function, FILE.py:FUNCTION" * other
        raise ValueError(f"{path} does not name a timm architecture{hint}")
    architecture = plain_text(architecture, f"{path}: architecture")
    if factories.is_code(architecture):
        raise ValueError(
            f"{name} was made by {architecture}, which is code and is not run automatically; "
            f"try model={architecture} weights={folder}"
        )
    prefix, _, rest = architecture.partition(":")
    zoos = {"torchvision": torchvision_zoo.resolve, "clip": clip_zoo.resolve}
    own = zoos[prefix](rest) if prefix in zoos else timm_zoo.resolve(architecture)
    head = config.get("head", own.head)
    if head not in HEADS:
        raise ValueError(f"{path}: expected a head of {', '.join(HEADS)}, got {shortened(head)}")
    return replace(_described(own, config, path), weights=str(folder), head=head)


def _described(own: Architecture, config: Mapping[str, Any], path: Path) -> Architecture:
    """Return the architecture with the folder's image preparation, head and arguments."""
    images = config.get("pretrained_cfg", {})
    arguments = config.get("model_args") or {}
    if not isinstance(images, Mapping) or not isinstance(arguments, Mapping):
        raise ValueError(f"{path}: expected pretrained_cfg and model_args by name, got {shortened(images)}")
    values = own.plain() | {ours: images[timms] for ours, timms in FED.items() if timms in images}
    if "input_size" in images:
        size = images["input_size"]
        if not isinstance(size, list) or len(size) != 3 or size[1] != size[2]:
            raise ValueError(f"{path}: expected a square input_size of three channels, got {shortened(size)}")
        values["size"] = size[2]
    values["num_classes"] = config.get("num_classes", own.num_classes)
    values["model_args"] = {key: value for key, value in arguments.items() if key not in DECIDED}
    if values["interpolation"] not in INTERPOLATIONS:
        values["interpolation"] = "bicubic"
    if values.get("crop_mode") not in CROP_MODES:
        values["crop_mode"] = "center"
    ratio = values["crop_ratio"]
    if not isinstance(ratio, int | float) or not 0 < ratio <= 2:
        raise ValueError(f"{path}: expected crop_pct in (0,2], got {shortened(ratio)}")
    return Architecture.of(values, str(path))


def read_config(path: Path) -> Mapping[str, Any]:
    """Read ``config.json``.

    Raises:
        ValueError: The file is not a JSON object, or too large.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: expected {MOST_BYTES} bytes or fewer, got {path.stat().st_size}")
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON ({error})") from None
    if not isinstance(config, Mapping):
        raise ValueError(f"{path}: expected the description of a model, got {shortened(config)}")
    return config
