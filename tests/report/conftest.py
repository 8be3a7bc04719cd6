"""Results folders of made-up models, and the published tables where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from harmonizer.results import COLUMNS, protocol_hash, write_results
from harmonizer.statistics import STATUSES, Status, alignment_summary, proportion, survival, tolerance_summary

EPS_MAX = 10.0


def make_results(
    folder,
    name,
    *,
    label=None,
    family="other",
    tolerance=2.0,
    alignment=0.2,
    accuracy=0.8,
    training=None,
    masked=False,
    attack="ddn",
    images=60,
    size=24,
    examples=4,
):
    """Write the results of a model whose per-image radii are exponential around ``tolerance``."""
    rng = np.random.default_rng([ord(letter) for letter in f"{name}{label}{attack}"])
    difficulty = np.random.default_rng(0).normal(size=images)  # shared, so that images pair up
    radius = tolerance * np.exp(0.4 * difficulty + 0.3 * rng.normal(size=images))
    status = np.where(
        rng.random(images) > accuracy, Status.WRONG, np.where(radius > EPS_MAX, Status.CENSORED, Status.FOUND)
    )
    found = status == Status.FOUND
    radius = np.where(found, radius, np.nan)
    scores = [np.clip(alignment + 0.15 * rng.normal(size=images), -1, 1) for _ in range(2)]
    scores[0] = np.where(found, scores[0], np.nan)
    masks = {f"alignment_{mask}": scores[0] + 0.05 * i for i, mask in enumerate(("mean_of_abs", "max_of_abs", "l2"), 1)}
    rows = [
        dict.fromkeys(COLUMNS, 0)
        | {"key": f"image-{i:03d}", "label": i % 10, "status": STATUSES[status[i]], "eps": radius[i], "l2": radius[i]}
        | {"rms": radius[i] / np.sqrt(3) / size, "linf": radius[i] / 10, "forwards": 140, "backwards": 130}
        | {"alignment": scores[0][i], "feature_alignment": scores[1][i]}
        | {name: values[i] for name, values in masks.items()}
        for i in range(images)
    ]
    settings = {"attack": attack, "settings": {"steps": 60}, "eps_max": EPS_MAX, "images": images}
    summary = {
        "version": 1,
        "model": {
            "name": name,
            "label": label or name,
            "family": family,
            "pretrained": training is None,
            "checkpoint": None,
            "weights_sha256": "ab" * 32,
            "parameters": 1_234_567,
            "input_size": size,
        },
        "training": training,
        "data": {"name": "demo", "manifest_sha256": "cd" * 32, "samples": images},
        "protocol": settings | {"hash": protocol_hash(settings)},
        "accuracy": proportion(int((status != Status.WRONG).sum()), images),
        "tolerance": tolerance_summary(status, radius, eps_max=EPS_MAX, resamples=200),
        "adversarial_alignment": alignment_summary(scores[0][found], resamples=200),
        "feature_alignment": alignment_summary(scores[1], resamples=200),
        "survival": survival(status, radius, np.linspace(0, EPS_MAX, 41)),
        "health": {"masked": masked, "reasons": ["42 % of gradients are zero"] if masked else []},
        "cost": {"forwards": 140.0 * images, "backwards": 130.0 * images, "seconds": 12.5},
        "software": {"harmonizer": "0.1.0", "torch": "2.14.0", "timm": "1.0.31"},
        "device": "cpu",
        "created": "2026-01-01T00:00:00Z",
    }
    kept = make_examples(rng, radius, examples, size) if found.any() else None
    write_results(folder, summary, rows, kept)
    return folder


def make_examples(rng, radius, count, size):
    """Make pictures of a bright disc, whose human map is the disc, and perturbations of the given radii."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    keys = [f"image-{i:03d}" for i in range(len(radius)) if np.isfinite(radius[i])][:count]
    image, human, adversarial, saliency = [], [], [], []
    for key in keys:
        turn = np.random.default_rng(int(key[-3:])).random(3)
        disc = np.exp(-((x - 0.3 * turn[0] + 0.15) ** 2 + (y - 0.3 * turn[1] + 0.15) ** 2) / 0.03)
        image.append(np.clip(np.stack([0.2 + 0.7 * disc * c for c in (1, 0.4 + turn[2] / 2, turn[2])]), 0, 1))
        change = rng.normal(size=(3, size, size)) * (0.3 + disc)
        change *= radius[int(key[-3:])] / np.linalg.norm(change)
        adversarial.append(np.clip(image[-1] + change, 0, 1))
        human.append(disc)
        saliency.append(np.abs(change).max(0))
    arrays = {"image": image, "adversarial": adversarial, "human": human, "saliency": saliency}
    return {"keys": np.array(keys)} | {name: np.array(array, np.float32) for name, array in arrays.items()}


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """Give a folder with two control/harmonized pairs and three other models, one of them masked, one badly named."""
    folder = tmp_path_factory.mktemp("zoo")
    for name, control, harmonized in (("vit_base_patch16_224", 1.5, 3.5), ("convnext_tiny", 1.2, 3.0)):
        for harmonize, tolerance in ((False, control), (True, harmonized)):
            label = f"{name} {'harmonized' if harmonize else 'control'}"
            training = {"harmonize": harmonize, "seed": 0, "recipe": "fel2022"}
            alignment = 0.45 if harmonize else 0.12
            at = folder / f"{name}-{harmonize}"
            make_results(at, name, label=label, tolerance=tolerance, alignment=alignment, training=training)
    make_results(folder / "resnet18", "resnet18.a1_in1k", tolerance=1.0, accuracy=0.7)
    make_results(folder / "masked", "maxvit_tiny_tf_224.in1k", tolerance=4.5, alignment=0.02, masked=True)
    make_results(folder / "script", "<script>alert(1)</script>", tolerance=0.8, accuracy=0.6)
    return folder


@pytest.fixture(scope="session")
def published():
    """Give the folder of the published tables, which are not part of the repository."""
    folders = [folder / "shared" / "data" for folder in Path(__file__).parents]
    found = next((folder for folder in folders if (folder / "feng2025_l2fmn.csv").is_file()), None)
    if found is None:
        pytest.skip("the published tables are not here")
    return found


@pytest.fixture(scope="session")
def make():
    """Give the function that writes a made-up model's results."""
    return make_results
