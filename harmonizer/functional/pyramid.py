"""Gaussian pyramid with TensorFlow's "SAME" zero padding, as the published loss uses it."""

import torch.nn.functional as F
from kornia.filters.kernels import get_pascal_kernel_2d
from torch import Tensor

TAPS = 5  # of the binomial kernel outer([1, 4, 6, 4, 1]) / 256


def gaussian_pyramid(maps: Tensor, levels: int) -> list[Tensor]:
    """Blur and halve the maps repeatedly.

    Level i+1 is level i convolved with outer([1,4,6,4,1]) / 256 at stride 2, with TensorFlow's "SAME" zero padding:
    1 before and 2 after for an even length, 2 and 2 for an odd one. (kornia's ``pyrdown`` differs: reflected border and
    bilinear resizing.)

    Args:
        maps: (B,H,W) float.
        levels: Number of maps to return, at least 1.

    Returns:
        ``levels`` tensors, full resolution first; level i+1 has ceil(h/2) x ceil(w/2) pixels of level i's h x w.

    Raises:
        ValueError: ``levels`` is below 1, or ``maps`` is not (B,H,W) or is empty.

    Reference:
        Burt and Adelson 1983; Fel et al. 2022 (arXiv 2211.04533), section 3.

    >>> import torch
    >>> [tuple(level.shape) for level in gaussian_pyramid(torch.rand(2, 64, 33), 3)]
    [(2, 64, 33), (2, 32, 17), (2, 16, 9)]
    """
    if maps.ndim != 3:
        raise ValueError(f"expected maps (B,H,W), got {tuple(maps.shape)}")
    if levels < 1 or not len(maps):
        raise ValueError(f"expected at least 1 pyramid level and 1 map, got {levels} and {len(maps)}")
    count = len(maps)
    kernel = get_pascal_kernel_2d(TAPS, device=maps.device, dtype=maps.dtype).expand(count, 1, TAPS, TAPS)
    pyramid = [maps]
    for _ in range(levels - 1):
        height, width = pyramid[-1].shape[1:]
        padded = F.pad(pyramid[-1], (*_same_padding(width), *_same_padding(height)))
        # As channels of one image: on a CPU a depthwise convolution is several times as fast as one of many images.
        pyramid.append(F.conv2d(padded[None], kernel, stride=2, groups=count)[0])
    return pyramid


def check_levels(levels: int, size: int) -> None:
    """Raise a ValueError for a pyramid that would repeat its last level, a single pixel.

    Args:
        levels: Number of levels, as in :func:`gaussian_pyramid`.
        size: Height and width of the maps.
    """
    most = 1 + max(size - 1, 0).bit_length()
    if levels > most:
        raise ValueError(f"expected at most {most} pyramid levels at {size} x {size} pixels, got levels={levels}")


def _same_padding(length: int) -> tuple[int, int]:
    """Return TensorFlow's "SAME" padding (before, after) for the kernel's taps at stride 2."""
    total = max((-(-length // 2) - 1) * 2 + TAPS - length, 0)
    return total // 2, total - total // 2
