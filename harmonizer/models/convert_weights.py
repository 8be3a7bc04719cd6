"""Convert Keras weights to a folder that timm loads: ``python -m harmonizer.models.convert_weights FILE.h5 --out DIR``.

Supports the published harmonized networks of Fel et al. 2022: VGG16, ResNet50V2, EfficientNet-B0, ViT-B/16, ConvNeXt-T,
LeViT-128 and MaxViT-T. Needs h5py, but not TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import save_for_hf

from harmonizer.cli import clear_errors
from harmonizer.cli.arguments import parser_of
from harmonizer.cli.console import print_rank_zero
from harmonizer.files import file_sha256, new_folder
from harmonizer.models.folders import CONVERTED
from harmonizer.models.keras.hdf5 import open_weights
from harmonizer.models.keras.mapping import INPUT, check_config, count_classes, find_architecture, to_timm
from harmonizer.models.tensors import check_weights
from harmonizer.results.citations import HARMONIZER
from harmonizer.untrusted import MOST_CLASSES

PAPER = "arXiv:2211.04533"


def convert(source: Path, out: Path) -> str:
    """Write a file of Keras weights as a folder that timm loads.

    Args:
        source: ``.h5`` file of a whole Keras model or of its weights.
        out: Folder to create, with ``model.safetensors``, timm's ``config.json`` and a model card, ``README.md``.

    Returns:
        timm's name of the architecture.

    Raises:
        FileExistsError: ``out`` exists.
        FileNotFoundError: The file does not exist.
        ImportError: h5py is not installed.
        ValueError: The file is damaged, or differs from all known networks; the message names the difference.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; choose another place with --out DIR")
    with open_weights(source) as file:
        arch = find_architecture(file)
        config = timm.get_pretrained_cfg(arch.timm)
        assert config is not None
        heads: Any = config.classifier  # LeViT has two
        head = heads if isinstance(heads, str) else heads[0]
        classes = count_classes(file, arch, head)
        if classes > MOST_CLASSES:
            raise ValueError(f"{source}: expected {MOST_CLASSES} classes or fewer, got {classes}")
        with torch.device("meta"):  # allocates nothing before the file is checked
            model: Any = timm.create_model(arch.timm, num_classes=classes)
        activation = check_config(file, model)
        state = to_timm(file, arch, model)
    check_weights(state, source)
    model.load_state_dict(state, assign=True)
    origin = {
        "file": source.name,
        "sha256": file_sha256(source),
        "keras": arch.keras,
        "removed_activation": activation if activation == "softmax" else None,
        "paper": PAPER,
    }
    _write(model, out, origin)
    return arch.timm


def _write(model: Any, out: Path, origin: dict[str, str | None]) -> None:  # noqa: ANN401 - timm's model
    """Write the folder atomically."""
    data = {
        "input_size": (3, INPUT, INPUT),
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "crop_pct": 0.875,
        "interpolation": "bilinear",
    }
    # timm's tag and license belong to other weights.
    config = {CONVERTED: origin, "pretrained_cfg": {"tag": None, "license": None}}
    with new_folder(out) as folder:
        save_for_hf(model, str(folder), config, safe_serialization=True, data_config=data)
        card = _model_card(model.pretrained_cfg["architecture"], origin)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _model_card(architecture: str, origin: dict[str, str | None]) -> str:
    """Return the model card in Markdown."""
    ours = "import harmonizer.models  # registers resnet50v2\n" * (architecture == "resnet50v2")
    softmax = "* the softmax after the logits is removed\n" * (origin["removed_activation"] == "softmax")
    return f"""---
library_name: timm
tags: [image-classification, timm, harmonizer]
---
# {architecture}, converted from Keras

* weights: `{origin["file"]}`, sha256 `{origin["sha256"]}`, of `{origin["keras"]}`
{softmax}* input: {INPUT} x {INPUT} pixels, divided by 255, normalised by ImageNet's mean and std

```python
import timm
{ours}model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True).eval()
```

The published harmonized networks are those of Fel et al. 2022 ({PAPER}); that this file is one of them is not checked.

```bibtex
{HARMONIZER}```
"""


@clear_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Convert as the command line says."""
    parser = parser_of("harmonizer.models.convert_weights", __doc__)
    parser.add_argument("file", type=Path, metavar="FILE.h5")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to make")
    given = parser.parse_args(arguments)
    name = convert(given.file, given.out)
    print_rank_zero(f"timm model: {given.out} ({name})")


if __name__ == "__main__":
    main()
