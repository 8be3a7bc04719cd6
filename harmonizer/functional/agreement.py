"""Agreement of two maps: rank correlation with ties, and Dice and intersection over union of the top pixels."""

import numpy as np
import torch
from torch import Tensor

# The levels of auc in serre-lab/human_clickme_data_processing, e6f9a76, rounded as there.
IOU_LEVELS = torch.from_numpy(np.arange(0.05, 1.0, 0.05))


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Correlate the ranks of two batches of maps, each pair over all its pixels; ties get average ranks.

    Args:
        a: (B,...) real.
        b: Same shape as ``a``.

    Returns:
        (B,) float64 in [-1,1]; NaN where a map is constant or not finite, without a rank correlation.

    Raises:
        ValueError: The shapes differ.

    Reference:
        Spearman 1904; equals ``scipy.stats.spearmanr`` of each pair.

    >>> spearman(torch.tensor([[1.0, 2.0, 2.0, 9.0]]), torch.tensor([[0.0, 5.0, 5.0, 6.0]]))
    tensor([1.], dtype=torch.float64)
    """
    a, b = _pair(a, b)
    ranks_a, order_a = _sorted_ranks(a)
    ranks_b, order_b = _sorted_ranks(b)
    aligned = torch.empty_like(ranks_a).scatter_(1, order_a, ranks_a).gather(1, order_b)  # a's ranks, in b's order
    spread = ranks_a.square().sum(1) * ranks_b.square().sum(1)
    rho = (aligned * ranks_b).sum(1) / spread.sqrt()
    defined = (spread > 0) & a.isfinite().all(1) & b.isfinite().all(1)
    return torch.where(defined, rho.clamp(-1, 1), torch.nan)


def dice(a: Tensor, b: Tensor, *, percent: float = 10) -> Tensor:
    """Measure the overlap of the top pixels of two batches of maps: 2 |A and B| / (|A| + |B|).

    A map's top pixels are those strictly above its ``100 - percent`` percentile (linear interpolation).

    Args:
        a: (B,...) real.
        b: Same shape as ``a``.
        percent: Percentage of pixels in the top, in (0,100).

    Returns:
        (B,) float64 in [0,1]; NaN where a map is not finite or has no top pixels: a constant map, or one where
        ``percent`` or more of the pixels have the largest value.

    Raises:
        ValueError: The shapes differ or ``percent`` is out of range.

    Reference:
        Dice 1945.

    >>> dice(torch.arange(10.0)[None], torch.arange(10.0)[None], percent=20)
    tensor([1.], dtype=torch.float64)
    """
    both, size_a, size_b = _top_overlap(a, b, percent)
    return 2 * both / (size_a + size_b)


def iou(a: Tensor, b: Tensor, *, percent: float = 10) -> Tensor:
    """Measure the overlap of the top pixels of two batches of maps: |A and B| / |A or B|.

    Arguments, result and errors are those of :func:`dice`.

    Reference:
        Jaccard 1901.

    >>> iou(torch.arange(10.0)[None], torch.arange(10.0)[None].flip(1), percent=20)
    tensor([0.], dtype=torch.float64)
    """
    both, size_a, size_b = _top_overlap(a, b, percent)
    return both / (size_a + size_b - both)


def iou_auc(a: Tensor, b: Tensor) -> Tensor:
    """Measure the overlap of two batches of maps by the area under the curve of IoU over thresholds.

    Each map is scaled to [0,1] by its own minimum and maximum, and thresholded at 0.05, 0.10 ... 0.95 (strictly above).
    The intersections over unions (0 where both sets are empty) are integrated by the trapezoidal rule: identical maps
    have 0.9.

    Args:
        a: (B,...) real.
        b: Same shape as ``a``.

    Returns:
        (B,) float64 in [0,0.9]; NaN where a map is not finite.

    Raises:
        ValueError: The shapes differ.

    Reference:
        ``auc`` in serre-lab/human_clickme_data_processing, e6f9a76, which adds 1e-8 to the range that it divides by.

    >>> iou_auc(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.9000], dtype=torch.float64)
    """
    a, b = _pair(a, b)
    defined = a.isfinite().all(1) & b.isfinite().all(1)
    a, b = _unit_range(a.double()), _unit_range(b.double())
    overlaps = []
    for level in IOU_LEVELS.tolist():
        top_a, top_b = a > level, b > level
        either = (top_a | top_b).sum(1)
        overlaps.append((top_a & top_b).sum(1).double() / either.clamp(min=1))
    area = torch.trapezoid(torch.stack(overlaps), IOU_LEVELS.to(a.device), dim=0)
    return torch.where(defined, area, torch.nan)


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten two batches of maps to (B,N); raise a ValueError if their shapes differ."""
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"expected two batches of maps of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.flatten(1), b.flatten(1)


def _unit_range(maps: Tensor) -> Tensor:
    """Scale maps (B,N) to [0,1], each by its own minimum and maximum."""
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    return (maps - low) / (high - low + 1e-8)


def _sorted_ranks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centred average ranks (B,N) in ascending order, and the order (B,N) int64."""
    ascending, order = maps.sort(dim=1)
    index = torch.arange(maps.shape[1], device=maps.device).expand_as(order)
    change = ascending[:, 1:] != ascending[:, :-1]
    edge = change.new_ones(len(maps), 1)
    first = torch.where(torch.cat([edge, change], 1), index, 0).cummax(1).values  # of each run of ties
    last = torch.where(torch.cat([change, edge], 1), index, maps.shape[1]).flip(1).cummin(1).values.flip(1)
    return (first + last).double() / 2 - (maps.shape[1] - 1) / 2, order


def _top_overlap(a: Tensor, b: Tensor, percent: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sizes (B,) float64 of the tops' intersection and of each top; NaN where a top is undefined."""
    if not 0 < percent < 100:
        raise ValueError(f"expected a percentage above 0 and below 100, got {percent}")
    a, b = _pair(a, b)
    top_a, top_b = _top(a, percent), _top(b, percent)
    defined = a.isfinite().all(1) & b.isfinite().all(1) & top_a.any(1) & top_b.any(1)
    both = torch.where(defined, (top_a & top_b).sum(1).double(), torch.nan)
    return both, top_a.sum(1).double(), top_b.sum(1).double()


def _top(maps: Tensor, percent: float) -> Tensor:
    """Mark the pixels (B,N) strictly above the percentile, interpolated linearly between order statistics."""
    position = (1 - percent / 100) * (maps.shape[1] - 1)
    below = min(int(position), maps.shape[1] - 1)
    largest = maps.double().topk(maps.shape[1] - below, dim=1).values  # descending, down to the lower neighbour
    lower, upper = largest[:, -1:], largest[:, -2:-1] if largest.shape[1] > 1 else largest[:, -1:]
    return maps.double() > lower + (position - below) * (upper - lower)
