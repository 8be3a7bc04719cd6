"""Placement of point labels without overlaps, each nearest to its own point."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from scipy.spatial import KDTree

# Offsets of a label from its point: directions in the order of preference x distances.
DIRECTIONS = np.array([(1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (1, 0), (-1, 0), (0, 1), (0, -1)], float)
DISTANCES = (5.0, 9.0, 16.0, 28.0, 44.0)  # in points
COST_DISTANCE, COST_DIRECTION, COST_POINT, COST_LINE, COST_LEADER = 0.4, 0.15, 2.0, 3.0, 1.0
CLEARER = 1.25  # least ratio of the distances from a label to any other point and to its own, without a leader line
Point = NDArray[np.float64]


@dataclass(frozen=True)
class Label:
    """A placed label."""

    index: int  # index of its point
    x: float  # left edge of its text, in the units of the points
    y: float  # lower edge of its text
    leader: bool  # whether a line joins it to its point, because another point is almost as near


def place_labels(
    points: Point,
    candidates: Sequence[int],
    sizes: Sequence[tuple[float, float]],
    bounds: tuple[float, float, float, float],
    *,
    lines: Sequence[Point] = (),
    must: int = 0,
) -> list[Label]:
    """Place labels greedily, in the order of the candidates, without overlaps.

    Args:
        points: (N,2) all points, which labels avoid; in typographic points on the page.
        candidates: Indices of the points to label, the most important first.
        sizes: Width and height of each candidate's text.
        bounds: Left, bottom, right and top edges of the area for labels.
        lines: Segments (2,2) that labels avoid, such as arrows.
        must: Number of first candidates that may cover points and lines; other labels are skipped instead.

    Returns:
        The labels that could be placed.
    """
    along = np.concatenate([np.empty((0, 2)), *(np.linspace(start, end, 20)[1:-1] for start, end in lines)])
    placed: list[Label] = []
    taken: list[Bbox] = []
    leaders = np.empty((0, 2))
    for rank, (index, size) in enumerate(zip(candidates, sizes, strict=True)):
        best, best_cost = None, np.inf
        for box, cost in _places(points[index], size, bounds):
            wide = box.padded(2.5)
            if cost >= best_cost or box.padded(1.5).count_overlaps(taken) or wide.count_contains(leaders):
                continue
            leader = not _names_its_own(points, index, box)
            line = np.linspace(points[index], _closest(box, points[index]), 12)[2:-1]
            if leader and any(other.count_contains(line) for other in taken):
                continue
            cost += COST_POINT * wide.count_contains(points) + COST_LINE * wide.count_contains(along)
            cost += COST_LEADER * leader
            if cost < best_cost and (cost < COST_POINT or rank < must):
                best, best_cost = (Label(index, box.x0, box.y0, leader), box, line), cost
        if best is not None:
            placed.append(best[0])
            taken.append(best[1])
            leaders = np.vstack([leaders, best[2]]) if best[0].leader else leaders
    return placed


def outstanding(points: Point) -> list[int]:
    """Return the indices of points by their distance to the third nearest point, largest first."""
    if len(points) < 2:
        return list(range(len(points)))
    near = KDTree(points).query(points, [min(4, len(points))])[0][:, 0]
    return [int(index) for index in np.argsort(-near, kind="stable")]


def pareto_front(values: Point) -> list[int]:
    """Return the Pareto front: indices of the points (N,2) that no other point equals or exceeds in both coordinates.

    >>> pareto_front(np.array([[0, 3], [1, 2], [0.5, 1], [2, 0]]))
    [3, 1, 0]
    """
    order = np.lexsort((-values[:, 1], -values[:, 0]))
    best = np.r_[-np.inf, np.maximum.accumulate(values[order, 1])[:-1]]
    return [int(index) for index in order[values[order, 1] > best]]


def _places(
    point: Point, size: tuple[float, float], bounds: tuple[float, float, float, float]
) -> Iterator[tuple[Bbox, float]]:
    """Yield the boxes around a point that lie within bounds, with their costs."""
    width, height = size
    for (far, distance), (turn, (right, up)) in product(enumerate(DISTANCES), enumerate(DIRECTIONS)):
        left = point[0] + right * distance - width * (0.5 - 0.5 * right)
        box = Bbox.from_bounds(left, point[1] + up * distance - height / 2, width, height)
        if np.all(box.min >= bounds[:2]) and np.all(box.max <= bounds[2:]):
            yield box, COST_DISTANCE * far + COST_DIRECTION * turn


def _closest(box: Bbox, points: Point) -> Point:
    """Return the position in a box that is closest to each point (...,2)."""
    return np.clip(points, box.min, box.max)


def _names_its_own(points: Point, index: int, box: Bbox) -> bool:
    """Return whether a box is clearly nearest to its own point."""
    distance = np.linalg.norm(points - _closest(box, points), axis=1)
    others = np.delete(distance, index)
    return bool(not len(others) or others.min() > CLEARER * distance[index])
