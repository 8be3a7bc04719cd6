"""Compare converted Keras weights with Keras, at full size: ``python -m benchmarks.keras_weights [NAME ...]``.

Each network of the published harmonized weights is built by Keras 3 on torch, filled with random weights, written by
Keras's HDF5 writer, converted, and compared by its logits on random images. It needs packages beyond the project's:
``pip install keras h5py six efficientnet vit-keras keras-cv-attention-models``, the last three without dependencies.
"""

import argparse
import json
import os
import sys
import tempfile
import types
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from harmonizer.models.convert_weights import convert

IMAGES = 2


def filled(name: str, shape: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return random weights determined by name and shape, at a scale that keeps activations in range."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).random_sample(tuple(shape)).astype(np.float32)
    kind = name.rpartition("/")[2]
    if kind in ("gamma", "moving_variance", "weight"):
        return 0.5 + draw / 2
    inputs = np.prod(shape[:-1]) if len(shape) > 1 else 16
    scale = float(shape[0] * shape[1]) if "depthwise" in kind or (len(shape) == 4 and shape[-1] == 1) else float(inputs)
    return (draw - 0.5) * np.float32((12 / scale) ** 0.5 if "kernel" in kind else 0.5)


def images() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return normalised images (B,224,224,3)."""
    return np.random.RandomState(0).uniform(-2, 2, (IMAGES, 224, 224, 3)).astype(np.float32)


class _Slashed(str):
    """A name with "/" that Keras 3 accepts: it forbids names that kecam and vit-keras wrote with Keras 2."""

    def __contains__(self, part: str) -> bool:
        return part != "/" and super().__contains__(part)


def _with_slashes(init: Callable[..., None]) -> Callable[..., None]:
    def wrapped(self: object, name: str | None = None, *args: object, **settings: object) -> None:
        init(self, _Slashed(name) if isinstance(name, str) else name, *args, **settings)

    return wrapped


def keras_models() -> dict[str, Any]:
    """Return a function per network that builds it for a number of classes; imports Keras."""
    os.environ.update(KERAS_BACKEND="torch", KECAM_BACKEND="keras_core")
    import keras
    from keras.src.backend.common.name_scope import name_scope
    from keras.src.ops.operation import Operation

    for kind in (Operation, name_scope):
        kind.__init__ = _with_slashes(kind.__init__)
    sys.modules["keras_core"] = keras  # kecam's name for Keras 3
    for part in ("layers", "models", "initializers", "callbacks", "metrics", "utils", "backend", "ops"):
        sys.modules[f"keras_core.{part}"] = getattr(keras, part)
    for unused in ("cv2", "validators", "skimage", "skimage.transform"):  # of their preprocessing
        sys.modules.setdefault(unused, types.ModuleType(unused))
    sys.modules["skimage.transform"].resize = None  # type: ignore[attr-defined]

    from efficientnet.model import EfficientNetB0
    from keras_cv_attention_models.convnext import ConvNeXtTiny
    from keras_cv_attention_models.levit import LeViT128
    from keras_cv_attention_models.maxvit import MaxViT_Tiny
    from vit_keras.vit import vit_b16

    old = types.SimpleNamespace(
        backend=lambda: "torch", image_data_format=lambda: "channels_last", sigmoid=keras.ops.sigmoid
    )
    parts = {"backend": old, "layers": keras.layers, "models": keras.models, "utils": keras.utils}
    logits: dict[str, Any] = {"pretrained": None, "classifier_activation": None}
    return {
        "vgg16": lambda k: keras.applications.VGG16(weights=None, classes=k),
        "resnet50v2": lambda k: keras.applications.ResNet50V2(weights=None, classes=k),
        "tf_efficientnet_b0": lambda k: EfficientNetB0(weights=None, classes=k, **parts),
        "vit_base_patch16_224": lambda k: vit_b16(pretrained=False, pretrained_top=False, classes=k),
        "convnext_tiny": lambda k: ConvNeXtTiny(num_classes=k, **logits),
        "levit_128": lambda k: LeViT128(num_classes=k, **logits),
        "maxvit_tiny_tf_224": lambda k: MaxViT_Tiny(num_classes=k, **logits),
    }


def write(model: Any, path: Path) -> None:  # noqa: ANN401 - Keras's
    """Write a whole Keras model, or only its weights where its configuration cannot hold its layers' names."""
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    if model.layers[-1].activation.__name__ == "softmax":
        model.save(path)
        return
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)


def without_softmax(model: Any, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:  # noqa: ANN401 - Keras's
    """Return a Keras model's logits (B,K)."""
    import keras

    model.layers[-1].activation = keras.activations.linear
    return np.asarray(model.predict_on_batch(inputs))


def compare(name: str, build: Callable[[int], Any], classes: int, folder: Path) -> dict[str, Any]:
    """Build, fill, write, convert and run one network; return names, shapes and logits of both."""
    model = build(classes)
    for weight in model.weights:
        weight.assign(filled(weight.path, weight.shape))
    write(model, folder / f"{name}.h5")
    assert convert(folder / f"{name}.h5", folder / name) == name
    expected = without_softmax(model, images())
    converted = timm.create_model(f"local-dir:{folder / name}", pretrained=True).eval()
    with torch.no_grad():
        got = converted(torch.from_numpy(images()).permute(0, 3, 1, 2)).numpy()
    layers = [[layer.name, [[w.path, list(w.shape)] for w in layer.weights]] for layer in model.layers]
    return {"layers": layers, "logits": expected, "difference": float(np.abs(got - expected).max())}


def run(names: Sequence[str], classes: int, golden: Path | None) -> Iterator[str]:
    """Yield the lines of the table; write names, shapes and logits for the tests."""
    models = keras_models()
    found: dict[str, Any] = {}
    yield "| model | weights | largest logit | largest difference |"
    yield "|---|---:|---:|---:|"
    for name in names or models:
        with tempfile.TemporaryDirectory() as folder:
            one = found[name] = compare(name, models[name], classes, Path(folder))
        count = sum(int(np.prod(shape)) for _, weights in one["layers"] for _, shape in weights)
        yield f"| {name} | {count:,} | {np.abs(one['logits']).max():.2f} | {one['difference']:.1e} |"
    if golden is not None:
        arrays = {f"{name}/logits": one["logits"] for name, one in found.items()}
        text = {
            f"{name}/layers": np.frombuffer(json.dumps(o["layers"]).encode(), np.uint8) for name, o in found.items()
        }
        np.savez_compressed(golden, **arrays, **text)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Converted Keras weights against Keras itself.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="timm's names; default: all seven")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--golden", type=Path, metavar="FILE.npz", help="write names, shapes and logits for the tests")
    given = parser.parse_args()
    for line in run(given.names, given.classes, given.golden):
        print(line, flush=True)


if __name__ == "__main__":
    main()
