"""The blur of ClickMe v2: a flat disk, applied twice, whose size depends on that of the image."""

import math

import torch.nn.functional as F
from torch import Tensor

# Defaults of serre-lab/human_clickme_data_processing (e6f9a76): blur_size, image_shape and max_kernel_size.
DIAMETER = 21  # pixels, for an image whose shorter side is REFERENCE_SIDE
REFERENCE_SIDE = 256
LARGEST_DIAMETER = 51


def disk_diameter(height: int, width: int, *, diameter: int = DIAMETER, most: int = LARGEST_DIAMETER) -> int:
    """Return the diameter of the disk for an image: proportional to its shorter side, odd and bounded.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        diameter: Diameter at a shorter side of 256 pixels.
        most: Largest diameter, odd.

    Raises:
        ValueError: ``diameter`` or ``most`` is not positive, or ``most`` is even.

    Reference:
        ``process_all_maps_multi_thresh_gpu`` of serre-lab/human_clickme_data_processing, e6f9a76: round half to even,
        plus 1 where that is even.

    >>> disk_diameter(256, 256), disk_diameter(375, 500), disk_diameter(1200, 1600)
    (21, 31, 51)
    """
    if diameter < 1 or most < 1 or most % 2 == 0:
        raise ValueError(f"expected a positive diameter and a positive odd bound, got {diameter} and {most}")
    scaled = round(diameter * min(height, width) / REFERENCE_SIDE)
    return min(scaled + (scaled + 1) % 2, most)


def disk_area(diameter: int) -> int:
    """Return the number of pixels of a disk."""
    radius = diameter // 2
    return sum(2 * math.isqrt(radius**2 - row**2) + 1 for row in range(-radius, radius + 1))


def disk_sum(maps: Tensor, diameter: int) -> Tensor:
    """Sum maps over a disk around each pixel, with zero padding.

    Pixels are added, never subtracted, so that a region without clicks is exactly 0, integers stay integers, and equal
    values stay tied in rank.

    Args:
        maps: (...,H,W) of any numeric type.
        diameter: Odd diameter in pixels.

    Returns:
        (...,H,W), of the type of ``maps``.

    >>> import torch
    >>> disk_sum(torch.eye(3, dtype=torch.int64), 3)
    tensor([[1, 2, 0],
            [2, 1, 2],
            [0, 2, 1]])
    """
    radius = diameter // 2
    height, width = maps.shape[-2:]
    runs = {1: F.pad(maps, (radius, radius, radius, radius))}

    total = maps.new_zeros(maps.shape)
    for row in range(radius + 1):
        half = math.isqrt(radius**2 - row**2)
        sums = _run(runs, 2 * half + 1)[..., radius - half : radius - half + width]
        for offset in {row, -row}:
            total += sums[..., radius + offset : radius + offset + height, :]
    return total


def _run(runs: dict[int, Tensor], length: int) -> Tensor:
    """Return the sums of ``length`` successive pixels of each row; known ones are in ``runs``, by length."""
    if length not in runs:
        first = length - (1 << (length - 1).bit_length() - 1)  # minus the largest power of two below the length
        count = runs[1].shape[-1] - length + 1
        runs[length] = _run(runs, first)[..., :count] + _run(runs, length - first)[..., first : first + count]
    return runs[length]


def disk_blur(maps: Tensor, diameter: int) -> Tensor:
    """Average maps over a disk around each pixel, twice, with zero padding.

    Args:
        maps: (...,H,W) float.
        diameter: Odd diameter in pixels.

    Returns:
        (...,H,W), of the type of ``maps``.

    Reference:
        ``circle_kernel`` and ``convolve(double_conv=True)`` of serre-lab/human_clickme_data_processing, e6f9a76.
    """
    return disk_sum(disk_sum(maps, diameter), diameter) / disk_area(diameter) ** 2
