"""Prepare ClickMe importance maps as the published work did."""

from functools import cache
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter1d
from torch import Tensor

Method = Literal["fel2022", "gaussian", "none"]
Preparation = Literal["fel2022", "gaussian", "disk", "none"]  # in the converter; disk keeps the size
Map = TypeVar("Map", Tensor, NDArray[Any])

RAW_SIZE = 256  # pixels per side of a ClickMe map
BLUR_SIZE = 64  # pixels per side at which the blur is applied
SIZE = 224  # pixels per side of a prepared map
FEL2022_SIGMA = 10.0  # pixels of 64
FEL2022_ROW_OFFSETS = range(-4, 6)  # "SAME" padding of 10 taps: 4 before, 5 after
FEL2022_PEAK = (0, 1)  # offset (rows, columns) of the largest weight
GAUSSIAN_SIGMA = 2.83  # pixels of 64: standard deviation of fel2022's window, which is nearly flat
GAUSSIAN_RADIUS = 11  # pixels of 64, nearly 4 sigma


def prepare_human_map(map_256: Map, *, method: Method = "fel2022") -> Map:
    """Blur an importance map and resize it to the input size of models.

    ``fel2022`` halves the size twice without antialiasing (256 -> 64), blurs with a 10-tap window of sigma 10 and
    enlarges to 224, all bilinear with half-pixel centres. Zero padding darkens the border, and the window shifts a map
    by (-0.46,-0.54) pixels of 64; both are as published. ``gaussian`` does the same with a centred Gaussian of equal
    width and a reflected border. ``none`` only resizes 256 -> 224. All three are linear and separable: rows and columns
    are multiplied by one matrix each.

    Args:
        map_256: (256,256) or (B,256,256) finite real numbers, array or tensor.
        method: Preparation.

    Returns:
        (224,224) or (B,224,224), array or tensor as the input and in its units; float64 for float64, otherwise float32.

    Raises:
        TypeError: ``map_256`` is not an array or tensor of real numbers.
        ValueError: Wrong shape, a value that is not finite, or an unknown method.

    Reference:
        Fel et al. 2022 (arXiv 2211.04533), released package 0.0.9; Linsley et al. 2019 (arXiv 1805.08819).

    >>> prepare_human_map(np.ones((256, 256)), method="gaussian").round(6).max().item()
    1.0
    """
    if method not in get_args(Method):
        raise ValueError(f"expected method to be one of {', '.join(get_args(Method))}, got {method!r}")
    if isinstance(map_256, Tensor):
        return _prepare(map_256, method)
    if isinstance(map_256, np.ndarray):
        if map_256.dtype.kind not in "fiu":
            raise TypeError(f"expected a map of real numbers, got dtype {map_256.dtype}")
        values = map_256.astype(np.float64 if map_256.dtype == np.float64 else np.float32)  # torch lacks some types
        return _prepare(torch.from_numpy(values), method).numpy()
    raise TypeError(f"expected a map as numpy array or torch tensor, got {type(map_256).__name__}")


def _prepare(raw: Tensor, method: Method) -> Tensor:
    """Check a tensor and multiply it by the two matrices."""
    if raw.is_complex() or raw.dtype == torch.bool:
        raise TypeError(f"expected a map of real numbers, got dtype {raw.dtype}")
    if raw.ndim not in (2, 3) or raw.shape[-2:] != (RAW_SIZE, RAW_SIZE):
        raise ValueError(f"expected a map ({RAW_SIZE},{RAW_SIZE}) or a batch of them, got {tuple(raw.shape)}")
    raw = raw.to(torch.float64 if raw.dtype == torch.float64 else torch.float32)
    if not bool(raw.isfinite().all()):
        raise ValueError("expected a map of finite values, got nan or inf")
    rows, columns = (torch.from_numpy(matrix).to(raw) for matrix in _matrices(method))  # (224,256) each
    return rows @ raw @ columns.T


@cache
def _matrices(method: Method) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrices by which a method multiplies rows and columns, (224,256) each."""
    if method == "none":
        direct = _resize(RAW_SIZE, SIZE)
        return direct, direct
    blurs = [_gaussian_blur()] * 2 if method == "gaussian" else [_fel2022_blur(peak) for peak in FEL2022_PEAK]
    shrink, enlarge = _resize(RAW_SIZE, BLUR_SIZE), _resize(BLUR_SIZE, SIZE)
    rows, columns = (enlarge @ blur @ shrink for blur in blurs)
    return rows, columns


def _resize(source: int, target: int) -> NDArray[np.float64]:
    """Return the (target,source) matrix of bilinear resizing with half-pixel centres and no antialiasing."""
    centres = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    # The weight of a source pixel decreases linearly to 0 at a distance of one pixel.
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(source)))
    return weights


def _fel2022_blur(peak: int) -> NDArray[np.float64]:
    """Return the (64,64) matrix of the published window with zero padding."""
    weights = np.exp(-((np.array(FEL2022_ROW_OFFSETS) - peak) ** 2) / (2 * FEL2022_SIGMA**2))
    # An origin of -1 makes the fifth of the ten weights that of the pixel itself.
    blur: NDArray[np.float64] = correlate1d(np.eye(BLUR_SIZE), weights / weights.sum(), 0, mode="constant", origin=-1)
    return blur


def _gaussian_blur() -> NDArray[np.float64]:
    """Return the (64,64) matrix of a centred Gaussian; the map is mirrored at the border, edge pixel included."""
    identity = np.eye(BLUR_SIZE)
    blur: NDArray[np.float64] = gaussian_filter1d(identity, GAUSSIAN_SIGMA, axis=0, radius=GAUSSIAN_RADIUS)
    return blur
