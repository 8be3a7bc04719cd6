"""A plug-in folder for Brain-Score's vision library (github.com/brain-score/vision)."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from harmonizer import __version__
from harmonizer.evaluation.load import load
from harmonizer.files import new_folder
from harmonizer.models import PixelModel
from harmonizer.results.citations import HARMONIZER
from harmonizer.untrusted import shortened

WEIGHTS = "weights"  # folder of the exported model inside the plug-in
FEWEST_LAYERS = 5  # fewest layers of a network without named stages
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,99}")  # also the name of a Python package
LAYER = re.compile(r"\w+(\.\w+)*", re.ASCII)

INIT = """\
from brainscore_vision import model_registry
from brainscore_vision.model_helpers.brain_transformation import ModelCommitment

from .model import get_layers, get_model

model_registry[{identifier!r}] = lambda: ModelCommitment(
    identifier={identifier!r},
    activations_model=get_model({identifier!r}),
    layers=get_layers({identifier!r}),
)
"""
MODEL = '''\
"""Written by Harmonizer {version}; the model is in {weights}/, as `python -m harmonizer.export` writes it."""

from collections import OrderedDict
from functools import partial
from pathlib import Path

from brainscore_vision.model_helpers.activations.pytorch import PytorchWrapper, load_preprocess_images
from torch import nn

try:
    from harmonizer import load
except ImportError as error:  # also where another project of this name is installed
    raise ImportError(
        "expected Harmonizer {version} or later, which wrote this; try pip install '/PATH/OF/ITS/CHECKOUT{extra}' "
        "or an address that you know: on a package index the name may be another project's"
    ) from error

IMAGE_SIZE = {size!r}  # pixels
LAYERS = {layers}
BIBTEX = {bibtex}


def get_model(name):
    assert name == {identifier!r}
    # `logits` is the last module, which Brain-Score reads as the output layer.
    network = load(Path(__file__).resolve().parent / {weights!r})
    model = nn.Sequential(OrderedDict(network=network, logits=nn.Identity())).eval()
    # The network takes images in [0,1] and normalises them itself: images are resized and scaled to [0,1], no more.
    preprocessing = partial(
        load_preprocess_images, image_size=IMAGE_SIZE, normalize_mean=(0.0, 0.0, 0.0), normalize_std=(1.0, 1.0, 1.0)
    )
    wrapper = PytorchWrapper(identifier={identifier!r}, model=model, preprocessing=preprocessing)
    wrapper.image_size = IMAGE_SIZE
    return wrapper


def get_layers(name):
    assert name == {identifier!r}
    return LAYERS


def get_bibtex(model_identifier):
    return BIBTEX
'''
REQUIREMENTS = """\
# Name Harmonizer {version} or later, which wrote this plug-in, by an address that you know, for example
# neural-harmonizer{extra} @ git+https://HOST/REPOSITORY@COMMIT
# The bare name is not written here: on a package index it may be another project's.
"""
TEST = """\
import brainscore_vision
import pytest


@pytest.mark.travis_slow
def test_has_identifier():
    model = brainscore_vision.load_model({identifier!r})
    assert model.identifier == {identifier!r}
"""
FILES = {"__init__.py": INIT, "model.py": MODEL, "test.py": TEST, "requirements.txt": REQUIREMENTS}


def write_plugin(out: Path, write_model: Callable[[Path], Path]) -> Path:
    """Write a plug-in, named after its folder, atomically.

    Returns:
        ``out``.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: The folder's name is not an identifier, or the exported model cannot be loaded.
    """
    if not IDENTIFIER.fullmatch(out.name):
        raise ValueError(
            f"expected brainscore=DIR to end in the model's identifier, up to 100 letters, digits and _, "
            f"got {shortened(out.name)}"
        )
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another place with brainscore=DIR")
    with new_folder(out) as folder:
        folder.mkdir(parents=True)
        model = load(write_model(folder / WEIGHTS))
        assert model.architecture is not None
        values = {
            "identifier": out.name,
            "version": __version__,
            "extra": "[clip]" * (model.architecture.kind == "clip"),
            "weights": WEIGHTS,
            "size": model.image_size,
            "layers": _literal([f"network.backbone.{name}" for name in layers(model)], "[]", ","),
            "bibtex": _literal(HARMONIZER.splitlines(keepends=True), "()"),
        }
        for name, text in FILES.items():
            (folder / name).write_text(text.format(**values), encoding="utf-8")
    return out


def layers(model: PixelModel) -> list[str]:
    """Return the names of the layers that Brain-Score chooses from, in network order.

    These are the modules of timm's ``feature_info``. For a network without it, the modules are expanded level by level,
    until at least five have weights. Only modules that run and return a tensor are named.

    Raises:
        ValueError: There are no layers, or a name is not plain.

    >>> layers(load("torchvision:alexnet"))[:3]
    ['features.0', 'features.3', 'features.6']
    """
    outputs = _modules_that_run(model)
    backbone = model.backbone
    stages = [entry["module"] for entry in getattr(backbone, "feature_info", ()) if entry.get("module") in outputs]
    names = list(dict.fromkeys(stages)) or _opened(backbone, outputs)
    if not names or not all(LAYER.fullmatch(name) for name in names):
        raise ValueError(f"expected a network with named layers that return tensors, got {shortened(names)}")
    return names


def _modules_that_run(model: PixelModel) -> set[str]:
    """Return the names of the backbone's modules that return a tensor."""
    outputs: set[str] = set()
    size = model.image_size
    assert size is not None

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _m, _i, out: outputs.add(name) if isinstance(out, Tensor) else None)

    handles = [watch(name, module) for name, module in model.backbone.named_modules() if name]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size, device=model.mean.device))
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _opened(backbone: nn.Module, outputs: set[str]) -> list[str]:
    """Return the modules with weights of the first level with enough of them, or of the last level."""
    level = [("", backbone)]
    while True:
        found = [name for name, _ in level if name in outputs]
        deeper = [child for name, module in level for child in _children(name, module) or [(name, module)]]
        if len(found) >= FEWEST_LAYERS or deeper == level:
            return found
        level = deeper


def _children(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return a module's children with weights."""
    parts = [(f"{name}.{key}".lstrip("."), part) for key, part in module.named_children()]
    return [(key, part) for key, part in parts if next(part.parameters(), None) is not None]


def _literal(texts: Iterable[str], brackets: str, end: str = "") -> str:
    """Return a Python literal with one string per line: a list, or one concatenated string."""
    return f"{brackets[0]}\n" + "".join(f"    {text!r}{end}\n" for text in texts) + brackets[1]
