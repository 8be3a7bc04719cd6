"""Files of Keras weights as TensorFlow's Keras 2 wrote them, from the names and shapes in the golden file."""

import json
from pathlib import Path

import h5py
import numpy as np
import torch

from benchmarks.keras_weights import filled, images

GOLDEN = Path(__file__).parent / "golden" / "keras_weights.npz"
KERAS_2 = {
    "Transformer_enc": "Transformer/enc",
    "Transformer_pos": "Transformer/pos",
    "dwconv/kernel": "dwconv/depthwise_kernel",
}


def keras_2(name):
    """Write a name as TensorFlow's Keras 2 did."""
    for new, old in KERAS_2.items():
        name = name.replace(new, old)
    return name


def write(path, name, *, whole=False, config=None):
    """Write a network's golden weights as TensorFlow's Keras 2 did."""
    with np.load(GOLDEN) as golden:
        layers = json.loads(golden[f"{name}/layers"].tobytes())
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["model_config"] = json.dumps(config or {"class_name": "Functional", "config": {"layers": []}})
            file.create_dataset("optimizer_weights/iteration:0", data=3)
        root.attrs["layer_names"] = [keras_2(layer).encode() for layer, _ in layers]
        for layer, weights in layers:
            group = root.require_group(keras_2(layer))
            group.attrs["weight_names"] = np.array([f"{keras_2(weight)}:0".encode() for weight, _ in weights])
            for weight, shape in weights:
                group.create_dataset(f"{keras_2(weight)}:0", data=filled(weight, shape))
    return path


def distance(model, name):
    """Return the largest difference from Keras's logits, relative to the largest logit if that exceeds 1."""
    with np.load(GOLDEN) as golden:
        expected = golden[f"{name}/logits"]
    with torch.no_grad():
        got = model(torch.from_numpy(images()).permute(0, 3, 1, 2)).numpy()
    assert got.shape == expected.shape == (2, 10)
    return np.abs(got - expected).max() / max(1, np.abs(expected).max())
