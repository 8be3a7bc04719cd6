"""Agreement of two observers on the same images (error consistency), and shape bias."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from harmonizer.statistics.bootstrap import Summary


def consistency_of(n: int, first: int, second: int, same: int) -> Summary:
    """Compute error consistency from counts.

    Args:
        n: Images.
        first: Images that the first observer got right.
        second: Images that the second observer got right.
        same: Images that both got right or both wrong.

    Returns:
        ``kappa`` in [-1,1], ``observed`` and ``expected`` consistency, ``n``; NaN without images. Observers who agree
        on every image have kappa 1, even where chance alone would make them agree.

    Reference:
        Geirhos, Meding and Wichmann 2020 (arXiv 2006.16736), equations 1 to 3; Cohen 1960.

    >>> consistency_of(4, 2, 2, 4)["kappa"], consistency_of(4, 2, 2, 0)["kappa"]
    (1.0, -1.0)
    """
    if not n:
        return {"kappa": math.nan, "observed": math.nan, "expected": math.nan, "n": 0}
    p, q, observed = first / n, second / n, same / n
    expected = p * q + (1 - p) * (1 - q)
    kappa = 1.0 if same == n else (observed - expected) / (1 - expected)
    return {"kappa": kappa, "observed": observed, "expected": expected, "n": n}


def error_consistency(first: ArrayLike, second: ArrayLike) -> Summary:
    """Measure how far two observers err on the same images, beyond the agreement that their accuracies imply.

    Args:
        first: (N,) bool, whether the first observer is right.
        second: (N,) bool, whether the second observer is right.

    Returns:
        The result of :func:`consistency_of`.

    Raises:
        ValueError: The shapes differ.

    >>> error_consistency([True, True, False, False], [True, False, True, False])["kappa"]
    0.0
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"expected two vectors of one length, got {a.shape} and {b.shape}")
    return consistency_of(len(a), int(a.sum()), int(b.sum()), int((a == b).sum()))


def shape_bias(responses: Sequence[str], shapes: Sequence[str], textures: Sequence[str]) -> Summary:
    """Measure the share of shape answers among those that follow the shape or the texture of a cue conflict.

    Args:
        responses: N answers.
        shapes: N categories of the images' shapes.
        textures: N categories of their textures; images whose shape and texture agree are skipped.

    Returns:
        ``shape_bias``, NaN where no answer follows either; ``n_shape``, ``n_texture``; ``n`` images with a conflict.

    Reference:
        Geirhos et al. 2019 (arXiv 1811.12231), section 2.

    >>> shape_bias(["cat", "dog", "car"], ["cat", "cat", "car"], ["dog", "dog", "car"])["shape_bias"]
    0.5
    """
    conflicts = [trio for trio in zip(responses, shapes, textures, strict=True) if trio[1] != trio[2]]
    by_shape = sum(answer == shape for answer, shape, _ in conflicts)
    by_texture = sum(answer == texture for answer, _, texture in conflicts)
    followed = by_shape + by_texture
    bias = by_shape / followed if followed else math.nan
    return {"shape_bias": bias, "n_shape": by_shape, "n_texture": by_texture, "n": len(conflicts)}
