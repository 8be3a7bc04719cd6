"""Simulated people for ``benchmarks.generalisation``: observers who decide by shape only, with lapses."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harmonizer.data.demo.dataset import BACKGROUNDS, CLASSES
from harmonizer.data.demo.render import paint

PEOPLE = 5
REMEMBERED = 50  # objects that all of them remember, so that they agree on which images are hard
GRID = 16  # cells per side of a remembered silhouette
NOISE = 0.6  # standard deviation of the noise on a cell's coverage in [0,1], drawn for each person and image
LAPSES = 0.02  # share of images that a person answers at random


def answers_of_people(labels: NDArray[np.int64]) -> Mapping[str, NDArray[np.int64]]:
    """Return each person's answers (N,) to the objects of the demo data's validation images.

    A person sees the silhouette of the object, cropped to its bounding box, with noise, and answers the class of the
    most similar remembered silhouette, or at random for some images. Background, colour and light do not change an
    answer.

    Args:
        labels: (N,) classes of the validation images, in order.

    >>> answers = answers_of_people(np.arange(20) % 10)
    >>> len(answers), answers["person 1"].shape
    (5, (20,))
    """
    shown = np.stack([silhouette(int(label), [1, index]) for index, label in enumerate(labels)])
    classes = np.arange(REMEMBERED) % len(CLASSES)
    remembered = np.stack([silhouette(int(label), [2, index]) for index, label in enumerate(classes)])
    return {f"person {person}": _answers(shown, remembered, classes, person) for person in range(1, PEOPLE + 1)}


def silhouette(label: int, seed: list[int]) -> NDArray[np.float32]:
    """Return the silhouette of the object of a class and seed, cropped to its bounding box; (GRID * GRID,) in [0,1]."""
    coverage = paint(CLASSES[label], BACKGROUNDS[0], np.random.default_rng(seed)).coverage
    rows, columns = (np.flatnonzero(coverage.max(axis) > 0.5) for axis in (1, 0))
    cut = coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = Image.fromarray(np.ascontiguousarray(cut)).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


def _answers(
    shown: NDArray[np.float32], remembered: NDArray[np.float32], classes: NDArray[np.int64], person: int
) -> NDArray[np.int64]:
    """Return one person's answers to silhouettes (N, GRID * GRID), given the remembered ones (M, GRID * GRID)."""
    rng = np.random.default_rng([3, person])
    seen = shown + NOISE * rng.standard_normal(shown.shape)
    answers = classes[((seen[:, None] - remembered) ** 2).sum(2).argmin(1)]
    lapses = rng.random(len(shown)) < LAPSES
    return np.where(lapses, rng.integers(len(CLASSES), size=len(shown)), answers)
