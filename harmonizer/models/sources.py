"""Resolve model names: timm, torchvision, open_clip, the Hugging Face Hub, folders and the user's own code.

========================================= ===========================================================================
name                                      model
========================================= ===========================================================================
``resnet50``, ``resnet50.a1_in1k``        timm model
``torchvision:resnet18[.IMAGENET1K_V1]``  torchvision model; a tag adds its weights
``clip:ViT-B-32[.openai]``                open_clip model as a zero-shot classifier; a tag adds its weights
``hf-hub:ORG/NAME[@REVISION]``            timm model on the Hugging Face Hub, with its weights
``FOLDER``, ``local-dir:FOLDER``          exported folder, or one in timm's format, with its weights
``FILE.py:FUNCTION``, ``MODULE:FUNCTION`` module that a user's function or class returns
========================================= ===========================================================================

evaluate.py and :func:`harmonizer.load` also take checkpoints of train.py; see :mod:`harmonizer.evaluation.model_spec`.
"""

from collections.abc import Callable
from pathlib import Path

from harmonizer.models import clip_zoo, factories, folders, timm_zoo, torchvision_zoo
from harmonizer.models.architecture import Architecture
from harmonizer.models.hub import fetch_folder

WEIGHTS_ALONE = (".safetensors", ".pth", ".pt", ".bin", ".h5")
TAGGED = "torchvision", "clip"  # prefixes of names that may end in a weights tag, .TAG
FOLDERS = "hf-hub", "hf_hub", "local-dir"  # prefixes of folders, which hold weights
Resolver = Callable[[str], Architecture]


def resolve(name: str | Architecture | None) -> Architecture:
    """Return the architecture that a name stands for, without building it.

    Only pass names that the user typed: a name may stand for code, which is imported.

    Raises:
        FileNotFoundError: The file or folder does not exist.
        ValueError: The model is unknown; the message suggests the nearest names.

    >>> resolve("resnet50").size, resolve("torchvision:resnet18").kind
    (224, 'torchvision')
    """
    if isinstance(name, Architecture):
        return name
    if not name:
        raise ValueError("expected model=NAME, got none; timm.list_models() lists the names")
    prefix, _, rest = name.partition(":")
    prefixes: dict[str, Resolver] = {
        "torchvision": torchvision_zoo.resolve,
        "clip": clip_zoo.resolve,
        **dict.fromkeys(("hf-hub", "hf_hub"), lambda repository: folders.resolve(fetch_folder(repository), name)),
        "local-dir": lambda folder: folders.resolve(Path(folder), name),
    }
    if prefix in prefixes:
        return prefixes[prefix](rest)
    if factories.is_code(name):
        return factories.resolve(name)
    if "/" not in name and timm_zoo.is_known(name):
        return timm_zoo.resolve(name)
    if Path(name).is_dir():
        return folders.resolve(Path(name), name)
    _refuse_path(name)
    return timm_zoo.resolve(name)


def brings_weights(name: str) -> bool:
    """Return whether a name includes trained weights; False for code, where this is unknown.

    >>> [brings_weights(name) for name in ("resnet50.a1_in1k", "torchvision:resnet18.DEFAULT", "hf-hub:ORG/NAME")]
    [False, True, True]
    """
    prefix, _, rest = name.partition(":")
    if prefix in TAGGED:
        return "." in rest
    folder = "/" in name or not timm_zoo.is_known(name)  # as resolve reads it
    return prefix in FOLDERS or (folder and not factories.is_code(name) and Path(name).is_dir())


def resolve_by_name(name: str) -> Architecture:
    """Return the architecture of a timm or torchvision name, which may come from a file: nothing is read or imported.

    Raises:
        ValueError: The model is unknown.
    """
    prefix, _, rest = name.partition(":")
    return torchvision_zoo.resolve(rest) if prefix == "torchvision" else timm_zoo.resolve(name)


def _refuse_path(name: str) -> None:
    """Raise for a name that looks like a path; the message explains how to use such a file."""
    path = Path(name)
    if path.suffix == ".ckpt":
        raise ValueError(
            f"expected a model name, got {name}, a checkpoint; try evaluate.py, or train with model=NAME weights={name}"
        )
    if path.suffix in WEIGHTS_ALONE:
        raise ValueError(f"expected a model name, got {name}, a file of weights; try model=NAME weights={name}")
    if path.suffix == ".py":
        found = factories.defined(path)
        hint = " or ".join(f"model={name}:{each}" for each in found[:3]) or f"model={name}:FUNCTION"
        raise ValueError(f"expected FILE.py:FUNCTION, got {name}; try {hint}")
    if ":" in name:
        raise ValueError(
            f"expected timm's NAME, torchvision:NAME, clip:NAME, hf-hub:ORG/NAME or FILE.py:FUNCTION, got {name!r}"
        )
    if "/" in name:
        raise FileNotFoundError(f"no folder at {name}; expected an exported folder, a run or hf-hub:ORG/NAME")
