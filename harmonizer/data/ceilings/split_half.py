"""Split-half reliability of an image's people, stepped up to their full number by Spearman-Brown."""

import math
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harmonizer.data.ceilings.participants import participant_files, participant_maps
from harmonizer.data.shards.manifest import Ceilings, mean_ceiling, stored_ceiling
from harmonizer.functional.agreement import spearman

# Random halvings of an image's participants, or all if there are fewer, as for up to six people. The number is ours: no
# paper gives one.
CEILING_SPLITS = 20
# Bound on the rank correlation of two people's maps. The value is ours, far above published ones (0.65753, mean maps).
MOST_ALIKE = 0.9


class CeilingError(ValueError):
    """Maps agree better than those of single people can, so they are not maps of single people."""


def most_ceiling(people: int) -> float:
    """Return the largest possible ceiling for a number of people, if no two agree better than :data:`MOST_ALIKE`.

    Reference:
        Spearman 1910 and Brown 1910: people who agree pairwise at r have mean maps that agree at n r / (1 + (n - 1) r).

    >>> round(most_ceiling(2), 4), round(most_ceiling(10), 4)
    (0.9474, 0.989)
    """
    return people * MOST_ALIKE / (1 + (people - 1) * MOST_ALIKE)


def split_half_reliability(stack: Tensor, *, splits: int = CEILING_SPLITS, seed: int = 0) -> float:
    """Estimate the correlation of the mean map of these people with that of as many others.

    The participants are halved, the mean maps of the halves are rank-correlated over all pixels, and the mean r over
    halvings is stepped up to the full number by Spearman-Brown: 2 r / (1 + r). All halvings are used if there are at
    most ``splits``, otherwise that many random ones. The halves of an odd number differ by one.

    Args:
        stack: (P,H,W) float64, one map per participant; all halvings are computed at once on its device.
        splits: Largest number of halvings.
        seed: Seed of the random halvings.

    Returns:
        At most 1; NaN with fewer than two participants, or if every halving has a constant mean map.

    Raises:
        ValueError: ``stack`` is not (P,H,W), or ``splits`` is below 1.

    Reference:
        Spearman 1910 and Brown 1910; for maps of ClickMe: Linsley et al. 2019 (arXiv 1805.08819).

    >>> maps = torch.arange(6.0).double().view(1, 2, 3)
    >>> split_half_reliability(torch.cat([maps, maps + 1]))
    1.0
    """
    if stack.ndim != 3 or splits < 1:
        raise ValueError(f"expected a stack (P,H,W) and splits >= 1, got {tuple(stack.shape)} and {splits}")
    if len(stack) < 2:
        return math.nan
    chosen = np.zeros((2, splits, len(stack)))  # half, halving, person
    halvings = list(_halvings(len(stack), splits, seed))
    for number, sides in enumerate(halvings):
        for side, people in zip(chosen, sides, strict=True):
            side[number, people] = 1
    weights = torch.from_numpy(chosen[:, : len(halvings)]).to(stack)
    first, second = weights @ stack.flatten(1)  # sums, which have the ranks of the means, (halvings,HW) each
    correlations = spearman(first, second)
    defined = correlations[correlations.isfinite()]
    if not len(defined):
        return math.nan
    r = float(defined.mean())
    return 2 * r / (1 + r) if r > -1 else -math.inf


def measure_ceilings(
    folder: Path,
    *,
    splits: int = CEILING_SPLITS,
    advance: Callable[[int], None] = lambda count: None,
    device: torch.device | str = "cpu",
) -> Ceilings | None:
    """Measure the ceilings of all participants' maps in a folder.

    The floor is the rank correlation of an image's mean map with the next image's, in the order of keys: the agreement
    of maps of different images, such as from a bias towards the centre.

    Args:
        folder: Folder with one ``KEY.npy`` (P,H,W), or ``KEY.clicks.npz``, per sample.
        splits: Halvings of an image's participants.
        advance: Called with the number of images done since the last call.
        device: Device of the computation.

    Returns:
        The ceilings; None if there are no such files.

    Raises:
        CeilingError: The mean ceiling is higher than is possible for people, so the stacks are something else, such as
            the click-count thresholds of one mean.
    """
    files = participant_files(folder)
    if not files:
        return None
    per_image: dict[str, float | None] = {}
    floors: list[float] = []
    most: list[float] = []  # largest possible ceilings of the images with a defined one
    means: list[Tensor] = []  # maps of the first image and of the last two
    for key, path in files.items():
        stack = participant_maps(path, device=device).values
        seed = int(sha256(key.encode()).hexdigest()[:16], 16)  # independent of the other images
        per_image[key] = stored_ceiling(split_half_reliability(stack, splits=splits, seed=seed))
        most += [most_ceiling(len(stack))] if per_image[key] is not None else []
        means = [*means[:1], *means[1:][-1:], stack.sum(0)]  # the sum has the ranks of the mean
        if len(means) > 1:
            floors.append(_correlate(means[-2], means[-1]))
        advance(1)
    if len(means) > 2:
        floors.append(_correlate(means[-1], means[0]))
    overall, allowed = mean_ceiling(per_image.values()), mean_ceiling(most)
    if overall > allowed:
        raise CeilingError(
            f"the stacks of {len(most)} images, first {next(iter(per_image))}, have a mean ceiling of {overall:.4f}, "
            f"expected at most {allowed:.4f} for so many people; try --stack thresholds or mean if they are not "
            "maps of single participants"
        )
    floor = mean_ceiling(map(stored_ceiling, floors))
    return Ceilings(splits, stored_ceiling(overall), stored_ceiling(floor), per_image)


def _halvings(people: int, splits: int, seed: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Yield halvings of a number of people: all of them, or ``splits`` random ones."""
    half = people // 2
    different = math.comb(people, half) // (1 if people % 2 else 2)  # for an even number, each would occur twice
    if different <= splits:
        for chosen in combinations(range(people), half):
            if people % 2 or 0 in chosen:
                yield chosen, [person for person in range(people) if person not in chosen]
        return
    generator = np.random.default_rng(seed)
    for _ in range(splits):
        order = generator.permutation(people).tolist()
        yield order[:half], order[half:]


def _correlate(a: Tensor, b: Tensor) -> float:
    """Rank-correlate two maps; NaN if they differ in size or one is constant."""
    if a.shape != b.shape:
        return math.nan
    return float(spearman(a[None], b[None]))
