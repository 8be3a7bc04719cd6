"""The blur of ClickMe v2: a flat disk, twice, whose size follows the image's."""

import math

import torch.nn.functional as F
from torch import Tensor

# Defaults of serre-lab/human_clickme_data_processing (e6f9a76): blur_size, image_shape and max_kernel_size.
DIAMETER = 21  # pixels, of an image whose shorter side is REFERENCE_SIDE
REFERENCE_SIDE = 256
LARGEST_DIAMETER = 51


def disk_diameter(
    height: int, width: int, *, diameter: int = DIAMETER, side: int = REFERENCE_SIDE, most: int = LARGEST_DIAMETER
) -> int:
    """Return the disk's diameter for an image, in pixels: in proportion to its shorter side, odd and bounded.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        diameter: At a shorter side of ``side``.
        side: Shorter side at which the disk has ``diameter``.
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
    scaled = round(diameter * min(height, width) / side)
    return min(scaled + (scaled + 1) % 2, most)


def disk_area(diameter: int) -> int:
    """Return how many pixels a disk has."""
    radius = diameter // 2
    return sum(2 * math.isqrt(radius**2 - row**2) + 1 for row in range(-radius, radius + 1))


def disk_sum(maps: Tensor, diameter: int) -> Tensor:
    """Sum maps over a disk about each pixel; outside the map they are 0.

    Pixels are added, never subtracted, so that a region without clicks is exactly 0 and integers stay integers: ranks
    of equal values stay tied.

    Args:
        maps: (...,H,W) of any kind of number.
        diameter: Odd, in pixels.

    Returns:
        (...,H,W), of the kind of ``maps``.

    >>> import torch
    >>> disk_sum(torch.eye(3, dtype=torch.int64), 3)
    tensor([[1, 2, 0],
            [2, 1, 2],
            [0, 2, 1]])
    """
    radius = diameter // 2
    height, width = maps.shape[-2:]
    padded = F.pad(maps, (radius, radius, radius, radius))
    runs = {1: padded}  # sums of so many pixels, beginning at each, by their number
    length = 1
    while 2 * length <= diameter:
        runs[2 * length] = runs[length][..., :-length] + runs[length][..., length:]
        length *= 2
    total = maps.new_zeros(maps.shape)
    for row in range(radius + 1):
        half = math.isqrt(radius**2 - row**2)
        if 2 * half + 1 not in runs:
            runs[2 * half + 1] = _run(runs, 2 * half + 1)
        run = runs[2 * half + 1][..., radius - half : radius - half + width]
        for offset in {row, -row}:
            total += run[..., radius + offset : radius + offset + height, :]
    return total


def disk_blur(maps: Tensor, diameter: int) -> Tensor:
    """Average maps over a disk about each pixel, twice; outside the map they are 0.

    Args:
        maps: (...,H,W) float.
        diameter: Odd, in pixels.

    Returns:
        (...,H,W), of the kind of ``maps``.

    Reference:
        ``circle_kernel`` and ``convolve(double_conv=True)`` of serre-lab/human_clickme_data_processing, e6f9a76.
    """
    return disk_sum(disk_sum(maps, diameter), diameter) / disk_area(diameter) ** 2


def _run(runs: dict[int, Tensor], length: int) -> Tensor:
    """Return the sums of ``length`` pixels from those of powers of two."""
    powers = [power for power in (1 << bit for bit in range(length.bit_length())) if length & power]
    begin, total = 0, None
    count = runs[1].shape[-1] - length + 1
    for power in powers:
        part = runs[power][..., begin : begin + count]
        total = part if total is None else total + part
        begin += power
    assert total is not None
    return total
