"""Clicks of several people on one image, as counts and as the blurred maps of ClickMe v2."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from harmonizer.data.disk import disk_area, disk_sum
from harmonizer.data.human_map import Preparation
from harmonizer.data.image import MOST_PIXELS
from harmonizer.files import replacing

Points = NDArray[np.int32]

MOST_COUNT = 255  # clicks of one person on one pixel: the published count maps have 8 bits
SUFFIX = ".clicks.npz"


@dataclass(frozen=True)
class Clicks:
    """Clicks of several people on one image."""

    # one (N,2) per person: x and y in pixels from the upper left corner, in the order of clicking; N >= 1
    points: Sequence[Points]
    height: int  # image height in pixels
    width: int  # image width in pixels
    outside: int = 0  # clicks outside the image, which are not among `points`

    @classmethod
    def on_image(cls, trials: Sequence[Points], height: int, width: int) -> "Clicks":
        """Keep the clicks on the image, and the people with at least one."""
        inside = [trial[((trial >= 0) & (trial < (width, height))).all(axis=1)] for trial in trials]
        outside = sum(map(len, trials)) - sum(map(len, inside))
        return cls([points for points in inside if len(points)], height, width, outside)

    def first(self, level: int, levels: int) -> "Clicks":
        """Keep the first clicks of each person, up to step ``level`` (from 0) of ``levels`` steps to all clicks.

        Reference:
            ``time_based_bins`` of serre-lab/human_clickme_data_processing, e6f9a76: linspace from a tenth of half the
            clicks, at least 1, to all, rounded down.
        """
        kept = []
        for points in self.points:
            steps = np.linspace(max(len(points) // 2 * 0.1, 1), len(points), levels).astype(int)
            kept.append(points[: steps[level]])
        return Clicks(kept, self.height, self.width)

    def counts(self) -> NDArray[np.uint8]:
        """Return the number of clicks of each person on each pixel: (P,H,W)."""
        counts = np.zeros((len(self.points), self.height, self.width), np.uint16)
        for person, points in zip(counts, self.points, strict=True):
            np.add.at(person, (points[:, 1], points[:, 0]), 1)
        return np.minimum(counts, MOST_COUNT).astype(np.uint8)

    def total_counts(self) -> NDArray[np.int64]:
        """Return the sum over people of :meth:`counts`: (H,W), without making a map for each."""
        total = np.zeros((self.height, self.width), np.int64)
        for points in self.points:
            x, y, counts = _distinct(points).T
            total[y, x] += counts
        return total

    def mean_blurred(self, diameter: int) -> NDArray[np.float64]:
        """Return the mean over people of their count maps, averaged over a disk twice: (H,W)."""
        total = disk_sum(disk_sum(torch.from_numpy(self.total_counts()), diameter), diameter)  # integers, so exact
        return np.asarray(total) / (disk_area(diameter) ** 2 * len(self.points))

    def disk_sums(
        self, diameter: int, rows: NDArray[np.int64] | None = None, columns: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Sum each person's count map over a disk, twice.

        Equals ``disk_sum(disk_sum(counts))`` and is fast for few clicks: each adds the response to a single click.

        Args:
            diameter: Odd diameter in pixels.
            rows: (R,) ascending rows of the result; None is all.
            columns: (C,) ascending columns of the result; None is all.

        Returns:
            (P,R,C), integers.
        """
        rows = np.arange(self.height) if rows is None else rows
        columns = np.arange(self.width) if columns is None else columns
        maps = np.zeros((len(self.points), len(rows), len(columns)))
        reach = 2 * (diameter // 2)
        for person, points in zip(maps, self.points, strict=True):
            for x, y, count in _distinct(points).tolist():
                margins = (x, y, self.width - 1 - x, self.height - 1 - y)
                stamp = _stamp(diameter, *(min(margin, diameter // 2) for margin in margins))
                down = slice(*rows.searchsorted((y - reach, y + reach + 1)))
                across = slice(*columns.searchsorted((x - reach, x + reach + 1)))
                person[down, across] += count * stamp[rows[down, None] - y + reach, columns[across] - x + reach]
        return maps


def _distinct(points: Points) -> NDArray[np.int64]:
    """Return the pixels that one person clicked and the number of clicks: (K,3), x, y and count."""
    codes, counts = np.unique(points.astype(np.int64) @ (1 << 32, 1), return_counts=True)
    return np.stack([codes >> 32, codes & 0xFFFFFFFF, np.minimum(counts, MOST_COUNT)], axis=1)


@lru_cache(maxsize=1024)
def _stamp(diameter: int, left: int, top: int, right: int, bottom: int) -> NDArray[np.float64]:
    """Return the response to a single click, (4r+1,4r+1), with the first disk cut off at the image's border.

    Args:
        diameter: Diameter of the disk, whose radius is r.
        left: Number of pixels between click and border, at most r.
        top: As ``left``.
        right: As ``left``.
        bottom: As ``left``.
    """
    radius = diameter // 2
    window = torch.zeros(4 * radius + 1, 4 * radius + 1, dtype=torch.float64)
    window[2 * radius, 2 * radius] = 1
    disk = disk_sum(window, diameter)
    inside = torch.zeros_like(disk)
    centre = 2 * radius
    inside[centre - top : centre + bottom + 1, centre - left : centre + right + 1] = 1
    stamp: NDArray[np.float64] = disk_sum(disk * inside, diameter).numpy()
    return stamp


class KeptClicks(NamedTuple):
    """People's clicks on an image, as stored by a conversion."""

    clicks: Clicks
    prepare: Preparation  # preparation of the mean map
    diameter: int  # diameter in pixels of the disk for this image


def write_clicks(path: Path, kept: KeptClicks) -> None:
    """Write people's clicks atomically, in a few bytes per click."""
    clicks = kept.clicks
    lengths = np.array([len(points) for points in clicks.points], np.int32)
    size = np.array((clicks.height, clicks.width), np.int32)
    points, prepare = np.concatenate(clicks.points).astype(np.int32), np.array(kept.prepare)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, points=points, lengths=lengths, size=size, prepare=prepare, diameter=np.int32(kept.diameter))


def read_clicks(path: Path) -> KeptClicks:
    """Read people's clicks.

    Raises:
        OSError: The file does not exist.
        ValueError: It is damaged or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            points, lengths, size, diameter = (file[name] for name in ("points", "lengths", "size", "diameter"))
            prepare = next(name for name in get_args(Preparation) if name == str(file["prepare"]))
        (height, width), total = (int(side) for side in size), int(lengths.sum())
        whole = points.shape == (total, 2) and lengths.min() >= 1 and 0 < height * width <= MOST_PIXELS
        inside = whole and bool(((points >= 0) & (points < (width, height))).all()) and 1 <= diameter <= min(size) + 1
    except OSError:
        raise
    except Exception as error:  # damaged bytes make NumPy raise almost anything
        raise ValueError(f"{path} is damaged ({error}); convert the data again") from None
    if not inside:
        raise ValueError(f"{path}: expected people's clicks on an image, got other arrays; convert the data again")
    return KeptClicks(Clicks(np.split(points, np.cumsum(lengths)[:-1]), height, width), prepare, int(diameter))
