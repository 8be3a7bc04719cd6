"""Place the names of points: they overlap neither each other nor points, and each is nearest to its own point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Offsets of a label from its point: directions in the order of preference x distances.
DIRECTIONS = np.array([(1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (1, 0), (-1, 0), (0, 1), (0, -1)], float)
DISTANCES = (5.0, 9.0, 16.0, 28.0, 44.0)  # in points
COST_DISTANCE, COST_DIRECTION, COST_POINT, COST_LINE, COST_LEADER = 0.4, 0.15, 2.0, 3.0, 1.0
CLEARER = 1.25  # times as far as a label's own point any other point must be, if no leader line joins them


@dataclass(frozen=True)
class Label:
    """A placed label.

    Attributes:
        index: Of its point.
        x: Left edge of its text, in the units of the points.
        y: Lower edge of its text.
        leader: Whether a line must join it to its point, because another point is as near.
    """

    index: int
    x: float
    y: float
    leader: bool


def place_labels(
    points: NDArray[np.float64],
    candidates: Sequence[int],
    sizes: Sequence[tuple[float, float]],
    bounds: tuple[float, float, float, float],
    *,
    lines: Sequence[NDArray[np.float64]] = (),
    must: int = 0,
) -> list[Label]:
    """Place labels greedily, the first candidate first; no two labels overlap.

    Args:
        points: (N,2) all the points, which labels avoid; in typographic points on the page.
        candidates: Points to label, the most important first.
        sizes: Width and height of each candidate's text.
        bounds: Left, bottom, right, top within which labels lie.
        lines: Segments (2,2) that labels avoid, such as arrows.
        must: The first this many candidates may cover points and lines; others are skipped instead.

    Returns:
        The labels that found a place.
    """
    along = [np.linspace(start, end, 20)[1:-1] for start, end in lines]
    obstacles = np.concatenate([points, *along])
    weights = np.r_[np.full(len(points), COST_POINT), np.full(len(obstacles) - len(points), COST_LINE)]
    placed: list[Label] = []
    taken, leaders = np.empty((0, 4)), np.empty((0, 2))
    for rank, (index, size) in enumerate(zip(candidates, sizes, strict=True)):
        best, best_cost = None, np.inf
        for box, cost in _places(points[index], size, bounds):
            if cost >= best_cost or _overlap(taken, box).any() or _contained(box, leaders).any():
                continue
            leader = not _names_its_own(points, index, box)
            line = np.linspace(points[index], _closest(box, points[index]), 12)[2:-1]
            if leader and any(_contained(other, line, 0).any() for other in taken):
                continue
            cost += float(weights[_contained(box, obstacles)].sum()) + COST_LEADER * leader
            if cost < best_cost and (cost < COST_POINT or rank < must):
                best, best_cost = (Label(index, box[0], box[1], leader), box, line), cost
        if best is not None:
            placed.append(best[0])
            taken = np.vstack([taken, best[1]])
            leaders = np.vstack([leaders, best[2]]) if best[0].leader else leaders
    return placed


def outstanding(points: NDArray[np.float64]) -> list[int]:
    """Order points by how far they stand out from the others: the distance to the third nearest, largest first."""
    if len(points) < 2:
        return list(range(len(points)))
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    near = np.sort(distance, axis=1)[:, min(3, len(points) - 1)]
    return [int(index) for index in np.argsort(-near, kind="stable")]


def pareto_front(values: NDArray[np.float64]) -> list[int]:
    """Return the points (N,2) that no other exceeds in one coordinate without falling short in the other.

    >>> pareto_front(np.array([[0, 3], [1, 2], [0.5, 1], [2, 0]]))
    [3, 1, 0]
    """
    order = np.lexsort((-values[:, 1], -values[:, 0]))
    best = np.r_[-np.inf, np.maximum.accumulate(values[order, 1])[:-1]]
    return [int(index) for index in order[values[order, 1] > best]]


def _places(
    point: NDArray[np.float64], size: tuple[float, float], bounds: tuple[float, float, float, float]
) -> list[tuple[NDArray[np.float64], float]]:
    """Return the boxes (left, bottom, right, top) around a point that lie within bounds, with their costs."""
    found = []
    for far, distance in enumerate(DISTANCES):
        for turn, (right, up) in enumerate(DIRECTIONS):
            x = point[0] + right * distance - size[0] * (0.5 - 0.5 * right)
            y = point[1] + up * distance - size[1] / 2
            box = np.array([x, y, x + size[0], y + size[1]])
            if x >= bounds[0] and y >= bounds[1] and box[2] <= bounds[2] and box[3] <= bounds[3]:
                found.append((box, COST_DISTANCE * far + COST_DIRECTION * turn))
    return found


def _closest(box: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the place of a box that is closest to each point (...,2)."""
    return np.clip(points, box[:2], box[2:])


def _names_its_own(points: NDArray[np.float64], index: int, box: NDArray[np.float64]) -> bool:
    """Return whether a box is clearly nearer to its own point than to any other."""
    distance = np.linalg.norm(points - _closest(box, points), axis=1)
    others = np.delete(distance, index)
    return bool(not len(others) or others.min() > CLEARER * distance[index])


def _overlap(boxes: NDArray[np.float64], box: NDArray[np.float64], margin: float = 1.5) -> NDArray[np.bool_]:
    """Return which boxes (N,4) overlap a box, or nearly."""
    low, high = boxes[:, :2] <= box[2:] + margin, boxes[:, 2:] >= box[:2] - margin
    return np.asarray((low & high).all(1))


def _contained(box: NDArray[np.float64], points: NDArray[np.float64], margin: float = 2.5) -> NDArray[np.bool_]:
    """Return which points (N,2) lie in a box, or nearly."""
    return np.asarray(((points >= box[:2] - margin) & (points <= box[2:] + margin)).all(1))
