"""Place the names of points so that they overlap neither each other nor, if possible, points."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Offsets of a label from its point: directions in the order of preference x distances.
DIRECTIONS = np.array([(1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (1, 0), (-1, 0), (0, 1), (0, -1)], float)
DISTANCES = (6.0, 14.0, 26.0, 42.0)  # in points
NEAR = 2  # distances at which no line has to join a label to its point
COST_DISTANCE, COST_DIRECTION, COST_POINT, COST_LINE = 0.4, 0.15, 2.0, 3.0


@dataclass(frozen=True)
class Label:
    """A placed label.

    Attributes:
        index: Of its point.
        x: Of its text's left edge, in the units of the points.
        y: Of its text's lower edge.
        far: Whether it is so far from its point that a line should join them.
    """

    index: int
    x: float
    y: float
    far: bool


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
        must: The first this many candidates may lie far away, or cover points and lines; others are left out instead.

    Returns:
        The labels that found a place.
    """
    obstacles = np.concatenate([points, *(np.linspace(start, end, 20)[1:-1] for start, end in lines)])
    weights = np.r_[np.full(len(points), COST_POINT), np.full(len(obstacles) - len(points), COST_LINE)]
    placed: list[Label] = []
    taken = np.empty((0, 4))
    for rank, (index, (width, height)) in enumerate(zip(candidates, sizes, strict=True)):
        best, best_cost = None, np.inf
        for far, distance in enumerate(DISTANCES if rank < must else DISTANCES[:NEAR]):
            for turn, (right, up) in enumerate(DIRECTIONS):
                x = points[index, 0] + right * distance - width * (0.5 - 0.5 * right)
                y = points[index, 1] + up * distance - height / 2
                box = np.array([x, y, x + width, y + height])
                inside = x >= bounds[0] and y >= bounds[1] and box[2] <= bounds[2] and box[3] <= bounds[3]
                if not inside or _overlaps(taken, box).any():
                    continue
                covered = float(weights[_contains(box, obstacles)].sum())
                if covered and rank >= must:
                    continue
                cost = covered + COST_DISTANCE * far + COST_DIRECTION * turn
                if cost < best_cost:
                    best, best_cost = (Label(index, x, y, far >= NEAR), box), cost
        if best is not None:
            placed.append(best[0])
            taken = np.vstack([taken, best[1]])
    return placed


def outstanding(points: NDArray[np.float64]) -> list[int]:
    """Order points by how far they stand out from the others: the distance to the third nearest, largest first."""
    if len(points) < 2:
        return list(range(len(points)))
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    near = np.sort(distance, axis=1)[:, min(3, len(points) - 1)]
    return [int(index) for index in np.argsort(-near, kind="stable")]


def _overlaps(boxes: NDArray[np.float64], box: NDArray[np.float64], margin: float = 1.5) -> NDArray[np.bool_]:
    """Tell which boxes (N,4) overlap a box, or nearly."""
    apart = (
        (boxes[:, 0] > box[2] + margin)
        | (boxes[:, 2] < box[0] - margin)
        | (boxes[:, 1] > box[3] + margin)
        | (boxes[:, 3] < box[1] - margin)
    )
    return np.asarray(~apart)


def _contains(box: NDArray[np.float64], points: NDArray[np.float64], margin: float = 2.5) -> NDArray[np.bool_]:
    """Tell which points (N,2) lie in a box, or nearly."""
    return np.asarray(((points >= box[:2] - margin) & (points <= box[2:] + margin)).all(1))
