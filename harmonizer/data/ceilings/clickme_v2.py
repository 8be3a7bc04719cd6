"""Ceiling and floor as in ClickMe's code of 2026: halves of people, partly resampled, not stepped up."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from harmonizer.data.ceilings.participants import ParticipantMaps
from harmonizer.functional.agreement import iou_auc, spearman

Score = Literal["spearman", "auc"]

ITERATIONS = 100  # halvings of an image's people; null_iterations of serre-lab/human_clickme_data_processing, e6f9a76
LEVELS = 10  # of click counts, over which the published AUC is averaged; thresholds of the same code
SCORES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"spearman": spearman, "auc": iou_auc}


def draw_halves(people: int, iterations: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw two halves of people repeatedly.

    Half A is the first n // 2 people of a random order, plus n // 2 draws with replacement from them. Half B is the
    others, plus n // 2 draws from them.

    Args:
        people: n >= 2.
        iterations: Number of halvings.
        generator: Generator on the CPU, so that the draws are the same for all devices.

    Returns:
        Number of times each person is in half A and in half B: (iterations, people) float64 each.
    """
    half = people // 2
    order = torch.rand(iterations, people, generator=generator, dtype=torch.float64).argsort(dim=1)
    sides = []
    for side in (order[:, :half], order[:, half:]):
        again = torch.randint(side.shape[1], (iterations, half), generator=generator)
        chosen = torch.cat([side, side.gather(1, again)], dim=1)
        ones = torch.ones_like(chosen, dtype=torch.float64)
        sides.append(ones.new_zeros(iterations, people).scatter_add_(1, chosen, ones))
    return sides[0], sides[1]


def resampled_agreement(
    own: ParticipantMaps, other: ParticipantMaps | None, *, score: Score, iterations: int = ITERATIONS, seed: int = 0
) -> float:
    """Measure the agreement of two halves of an image's people, or of a half with one of another image's people.

    Args:
        own: People of an image.
        other: People of another image, for the floor; None compares the two halves of ``own``, for the ceiling.
        score: ``"spearman"``, or ``"auc"``, the area under the curve of overlaps (:func:`iou_auc`).
        iterations: Halvings, all computed at once on the maps' device.
        seed: Seed of the halvings.

    Returns:
        Mean over the halvings with a defined score; NaN with fewer than two people or without such a halving.

    Raises:
        ValueError: The maps of the two images differ in size.

    Reference:
        ``compute_correlation_batch`` of serre-lab/human_clickme_data_processing, e6f9a76.
    """
    if other is not None and other.values.shape[1:] != own.values.shape[1:]:
        sizes = [f"{maps.values.shape[2]}x{maps.values.shape[1]}" for maps in (own, other)]
        raise ValueError(f"expected maps of one size for the floor, got {sizes[0]} and {sizes[1]}; try raw clicks")
    if len(own.values) < 2 or (other is not None and len(other.values) < 2):
        return float("nan")
    generator = torch.Generator().manual_seed(seed)
    first, second = draw_halves(len(own.values), iterations, generator)
    if other is not None:
        second = draw_halves(len(other.values), iterations, generator)[1]
    maps = [_means(first, own), _means(second, own if other is None else other)]
    return float(SCORES[score](*maps).nanmean())


def _means(weights: Tensor, people: ParticipantMaps) -> Tensor:
    """Return the mean map of each half: (iterations, HW)."""
    sums = weights.to(people.values.device) @ people.values.flatten(1)
    return sums * people.unit / weights.sum(1, keepdim=True).to(sums.device)
