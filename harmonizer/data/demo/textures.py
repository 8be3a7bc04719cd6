"""The backgrounds of the demo data: each class has one texture as its shortcut."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]
"""(H,W) values."""

Texture = Callable[[Field, Field, np.random.Generator], Field]
"""Function of the pixels' coordinates along and across, in pixels, to the share of the lighter tone, in [0,1]."""


def stripes(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw straight stripes."""
    return _bars(u, rng.uniform(6, 10), rng.uniform(0.35, 0.6))


def checks(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw a chessboard."""
    period = rng.uniform(10, 16)
    a, b = _bars(u, period, 0.5), _bars(v, period, 0.5)
    return a + b - 2 * a * b


def dots(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw dots on a triangular lattice."""
    pitch = rng.uniform(7, 11)
    row = np.floor(v / (pitch * 0.866))
    x = _cell(u + row % 2 * pitch / 2, pitch)
    y = _cell(v, pitch * 0.866)
    return _edge(pitch * rng.uniform(0.24, 0.34) - np.hypot(x, y))


def waves(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw wavy lines."""
    length = rng.uniform(14, 22)
    return _bars(u + length / 6 * np.sin(v * 2 * np.pi / length), rng.uniform(6, 9), 0.45)


def zigzag(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw chevrons."""
    length = rng.uniform(12, 18)
    return _bars(u + np.abs(_cell(v, length)), rng.uniform(7, 10), 0.5)


def bricks(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw a brick wall in running bond, with a tone per brick."""
    height = rng.uniform(6, 9)
    length = height * 2.2
    row = np.floor(v / height)
    shifted = u + row % 2 * length / 2
    joint = np.minimum(length / 2 - np.abs(_cell(shifted, length)), height / 2 - np.abs(_cell(v, height)))
    tones = rng.random((16, 16), dtype=np.float32)
    tone: Field = tones[row.astype(int) % 16, np.floor(shifted / length).astype(int) % 16]
    return _edge(joint - 0.8) * (0.65 + 0.35 * tone)


def scales(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw overlapping scales, each darker towards its edge."""
    size = rng.uniform(9, 13)
    tone = np.zeros_like(u)
    base = np.floor(v / (size / 2))
    for step in (0, 1, 2):  # the rows that can reach a pixel, the nearest on top
        row = base - 2 + step
        x = _cell(u + row % 2 * size / 2, size)
        distance = np.hypot(x, v - row * size / 2)
        inside = _edge(size * 0.56 - distance)
        tone = tone * (1 - inside) + inside * np.clip(1.25 - (distance / (size * 0.56)) ** 3 * 1.25, 0, 1)
    return tone


def weave(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw interwoven strips."""
    size = rng.uniform(6, 8.5)
    over = (np.floor(u / size) + np.floor(v / size)) % 2
    across, along = (
        np.abs(_cell(u, size)) / size * 2,
        np.abs(_cell(v, size)) / size * 2,
    )  # 0 in the middle, 1 at the edge
    width = np.where(over > 0, across, along)
    length = np.where(over > 0, along, across)
    return (1 - 0.85 * width**3) * (1 - 0.45 * length**2) * np.where(over > 0, 1.0, 0.72)


def wood(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw the grain of a board."""
    bend = noise(rng, u.shape, 3)
    rings = u * 2 * np.pi / rng.uniform(7, 11) + 2.2 * bend + 1.2 * np.sin(v / 17)
    fibre = np.sin(u * 2.3 + 3 * bend)
    tone: Field = np.clip(0.5 + 0.42 * np.sin(rings + 0.6 * np.sin(rings)) + 0.1 * fibre, 0, 1)
    return tone


def clouds(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw soft, marbled noise."""
    field = noise(rng, u.shape, 4) + 0.6 * noise(rng, u.shape, 8) + 0.35 * noise(rng, u.shape, 16)
    tone: Field = np.clip(0.5 + 0.38 * field, 0, 1)
    return tone


def plain(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Draw a uniform tone, a shortcut for no class."""
    return np.full_like(u, 0.5)


TEXTURES: Mapping[str, Texture] = {
    texture.__name__: texture for texture in (bricks, scales, dots, stripes, wood, clouds, checks, weave, zigzag, waves)
}
"""Textures by name, in the order of the classes with that shortcut."""


def noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> Field:
    """Return smooth noise of about unit deviation, with features the size of 1/cells of the image."""
    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    smooth = Image.fromarray(coarse).resize(
        (shape[1], shape[0]), Image.Resampling.BICUBIC, box=(1.5, 1.5, cells + 1.5, cells + 1.5)
    )
    return np.asarray(smooth)


def _bars(x: Field, period: float, share: float) -> Field:
    """Return bars across x with smooth edges."""
    return _edge(share * period / 2 - np.abs(_cell(x, period)))


def _cell(x: Field, period: float) -> Field:
    """Return the signed distance to the centre of the period."""
    offset: Field = x - period * (np.floor(x / period) + 0.5)
    return offset


def _edge(inside: Field) -> Field:
    """Convert a signed distance in pixels to coverage."""
    coverage: Field = np.clip(inside + 0.5, 0, 1)
    return coverage
