"""Measure generalisation beyond the shortcut of the demo data: ``python -m benchmarks.generalisation FRONT``.

FRONT is the folder of ``benchmarks.front``. Each network classifies the 500 objects of the validation images on other
backgrounds, as silhouettes and under corruptions, and its errors are compared with those of simulated people. Writes
``FRONT/generalisation/NAME.json``; rerun the same command to measure missing networks. At the end the command prints
the table: one row per recipe, the mean over its seeds with the lowest and the highest.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kornia.enhance as enhance
import kornia.filters as filters
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

import harmonizer
from benchmarks.front import by_recipe, cell
from benchmarks.simulated_people import answers_of_people
from harmonizer.data.demo.dataset import BACKGROUNDS, CLASSES, SIZES
from harmonizer.data.demo.render import SIZE, paint
from harmonizer.evaluation.behaviour import Trial, compare
from harmonizer.files import atomic_write
from harmonizer.statistics import shape_bias

LABELS = np.arange(SIZES["val"]) % len(CLASSES)  # classes of the validation images
TURN = np.arange(SIZES["val"]) // len(CLASSES)  # number of earlier images of the class
SWAPPED = (LABELS + 1 + TURN % (len(BACKGROUNDS) - 1)) % len(BACKGROUNDS)
TEXTURES: Mapping[str, NDArray[np.int64] | None] = {
    "validation": TURN % len(BACKGROUNDS),  # the validation images themselves, bit for bit
    "own background": LABELS,  # the shortcut leads to the class
    "swapped": SWAPPED,  # the shortcut always leads to another class
    "plain": None,  # without a shortcut
}
SILHOUETTES = {"light silhouette": (0, 255), "dark silhouette": (255, 0)}  # grey levels of ground and object
SETS = (*TEXTURES, *SILHOUETTES)
BATCH = 100

# Three severities each, for images (N,3,H,W) in [0,1]; at the strongest people can still recognise the object.
CORRUPTIONS: Mapping[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, float, float]]] = {
    "noise": (
        lambda x, s: x + s * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
        (0.04, 0.08, 0.16),
    ),
    "blur": (lambda x, s: filters.gaussian_blur2d(x, (13, 13), (s, s)), (0.6, 1.2, 2.0)),
    "motion": (lambda x, s: filters.motion_blur(x, int(s), 0.0, 0.0, border_type="replicate"), (3, 5, 9)),
    "contrast": (enhance.adjust_contrast_with_mean_subtraction, (0.6, 0.4, 0.2)),
    "brightness": (enhance.adjust_brightness, (0.1, 0.2, 0.35)),
    "JPEG": (lambda x, s: enhance.jpeg_codec_differentiable(x, torch.full((len(x),), s)), (50, 20, 8)),
    "pixels": (lambda x, s: interpolate(interpolate(x, size=int(s), mode="area"), size=SIZE), (40, 28, 20)),
}
COLUMNS = (*SETS, "by shape", "corruptions", "error consistency")


def main() -> None:
    """Measure the missing networks, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("front", type=Path, metavar="FRONT", help="with runs/NAME/last.ckpt and results/NAME")
    folder = parser.parse_args().front.resolve()
    names = sorted(path.parent.name for path in folder.glob("results/*/summary.json"))  # the others may be in training
    if not names:
        parser.error(f"expected results of benchmarks.front in {folder}, found none; run that first")
    files = {name: folder / "generalisation" / f"{name}.json" for name in names}
    missing = [name for name, path in files.items() if not path.exists()]
    if missing:
        files[names[0]].parent.mkdir(exist_ok=True)
        images = {name: drawn(name) for name in SETS}
        corrupted, people = dict(corruptions(images["validation"])), answers_of_people(LABELS)
    for name in missing:
        found = measure(harmonizer.load(folder / "runs" / name / "last.ckpt"), images, corrupted, people)
        atomic_write(files[name], json.dumps(found, indent=1) + "\n")
    print(table({name: json.loads(path.read_text(encoding="utf-8")) for name, path in files.items()}))


def drawn(name: str) -> Tensor:
    """Draw the objects of the validation images, at their positions, as one of SETS; (N,3,H,W) uint8."""
    textures, pixels = TEXTURES.get(name), []
    for index, label in enumerate(LABELS):
        texture = None if textures is None else BACKGROUNDS[textures[index]]
        painting = paint(CLASSES[label], texture, np.random.default_rng([1, index]))
        if name in SILHOUETTES:
            dark, light = SILHOUETTES[name]
            grey = np.rint(dark + (light - dark) * painting.coverage)
            pixels.append(np.repeat(grey[None], 3, axis=0).astype(np.uint8))
        else:
            pixels.append(painting.image.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(pixels))


def corruptions(images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield images (N,3,H,W) uint8 under each corruption and severity, by ``NAME SEVERITY``."""
    for name, (corrupt, strengths) in CORRUPTIONS.items():
        for severity, strength in enumerate(strengths, start=1):
            parts = [corrupt(part.float() / 255, strength) for part in images.split(BATCH)]
            yield f"{name} {severity}", (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8)


def measure(
    model: harmonizer.models.PixelModel,
    images: Mapping[str, Tensor],
    corrupted: Mapping[str, Tensor],
    people: Mapping[str, NDArray[np.int64]],
) -> dict[str, Any]:
    """Return a network's scores on all images; accuracies in percent.

    Raises:
        ValueError: The network does not have the demo data's size or classes.
    """
    if model.image_size != SIZE:
        raise ValueError(f"expected a network of {SIZE} pixels, got {model.image_size}; try image_size={SIZE}")
    answers = {name: classify(model, pixels) for name, pixels in images.items()}
    accuracy = {name: 100 * float((given == LABELS).mean()) for name, given in answers.items()}
    conflict = (answers["swapped"], LABELS, SWAPPED)
    bias = shape_bias(*([CLASSES[i] for i in row] for row in conflict))  # a background is named by its class
    damaged = {name: 100 * float((classify(model, pixels) == LABELS).mean()) for name, pixels in corrupted.items()}
    judged = {(name, str(i)): CLASSES[label] for name in TEXTURES for i, label in enumerate(answers[name])}
    trials = [
        Trial(person, (name, str(i)), CLASSES[LABELS[i]], CLASSES[label])
        for person, given in people.items()
        for name in TEXTURES
        for i, label in enumerate(given)
    ]
    behaviour = compare(judged, trials)
    return accuracy | {
        "by shape": 100 * bias["shape_bias"],
        "corruptions": float(np.mean(list(damaged.values()))),
        "each corruption": damaged,
        **{key.replace("_", " "): behaviour[key] for key in ("error_consistency", "between_people", "people_accuracy")},
    }


def classify(model: torch.nn.Module, images: Tensor) -> NDArray[np.int64]:
    """Return the predicted labels (N,) of images (N,3,H,W) uint8.

    Raises:
        ValueError: The model does not have the demo data's classes.
    """
    with torch.no_grad():
        logits = torch.cat([model(part.float() / 255) for part in images.split(BATCH)])
    if logits.shape[1] != len(CLASSES):
        raise ValueError(f"expected a network of {len(CLASSES)} classes, got {logits.shape[1]}")
    return np.asarray(logits.argmax(1))


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Format one row per recipe."""
    lines = [f"| recipe | seeds | {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) + 1)}"]
    for recipe, scores in by_recipe(found).items():
        cells = [cell([score[name] for score in scores], 3 if name == COLUMNS[-1] else 1) for name in COLUMNS]
        lines.append(f"| {recipe} | {len(scores)} | {' | '.join(cells)} |")
    one = next(iter(found.values()))
    lines += [
        "",
        f"Simulated people: {100 * one['people accuracy']:.1f} % right, between them {one['between people']:.3f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
