"""Paint one image of the demo data and simulate people's clicks on it."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from harmonizer.data.demo.shapes import SHAPES, Drawing, Points
from harmonizer.data.demo.textures import TEXTURES, Field, noise, plain

SIZE = 64  # pixels
MARGIN = 1.5  # pixels between object and border
FINE = 4  # sub-pixels per pixel and axis in which outlines are drawn
PEOPLE = 6  # who click on one image
CLICKS = 12  # per person
FOCUS = 0.22  # standard deviation of the clicks around a diagnostic part, in object radii
CLICK_BLUR = 4.0  # standard deviation in pixels

Colour = NDArray[np.float32]
"""(3,) sRGB in [0,1]."""


class Painting(NamedTuple):
    """One image."""

    image: NDArray[np.uint8]  # (H,W,3) uint8
    human: NDArray[np.uint8]  # (H,W) uint8 importance map with a maximum of 255
    coverage: Field  # (H,W) float32 share of each pixel that the object covers


def paint(shape: str, texture: str | None, rng: np.random.Generator) -> Painting:
    """Paint an object on a background; position, size, rotation, colours and light are random.

    Args:
        shape: Class name.
        texture: Name of the background; None paints an even tone.
        rng: Generator of all random choices.

    >>> painting = paint("fish", "waves", np.random.default_rng(0))
    >>> painting.image.shape, int(painting.human.max())
    ((64, 64, 3), 255)
    """
    drawing = SHAPES[shape](rng)
    radius = SIZE * rng.uniform(0.27, 0.39)
    place = _Place.choose(drawing, radius, rng)
    coverage = _rasterize([(place(points), float(adds)) for points, adds in drawing.body])
    canvas, hue = _background(texture, rng)
    marks = _rasterize([(place(points), tone) for points, tone in drawing.marks])  # (H,W) in [-1,1]
    _paint_object(canvas, coverage, marks, hue, rng)
    canvas += 0.012 * rng.standard_normal(canvas.shape, dtype=np.float32)  # grain of a photograph
    image = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    focus = place(np.array(drawing.focus))
    return Painting(image, _clicks(coverage, focus, radius, rng), coverage)


class _Place(NamedTuple):
    """Placement of the object: centre in pixels, and the (2,2) matrix from the drawing's box to pixels."""

    centre: Points
    turn: Points

    @classmethod
    def choose(cls, drawing: Drawing, radius: float, rng: np.random.Generator) -> "_Place":
        """Rotate, mirror and stretch the object a little, and place it anywhere inside the image."""
        angle = math.radians(rng.uniform(-35, 35))
        stretch = rng.uniform(0.9, 1.1)
        scale = np.array([rng.choice([-1.0, 1.0]) * stretch, 1 / stretch]) * radius
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * scale
        corners = np.concatenate([points for points, _ in drawing.body]) @ turn.T
        lowest, highest = MARGIN - corners.min(0), SIZE - MARGIN - corners.max(0)
        return cls(lowest + (highest - lowest) * rng.random(2), turn)

    def __call__(self, points: Points) -> Points:
        return self.centre + points @ self.turn.T


def _rasterize(polygons: list[tuple[Points, float]]) -> Field:
    """Draw polygons in order, each with its value; return (H,W), averaged over sub-pixels."""
    canvas = Image.new("F", (SIZE * FINE, SIZE * FINE))
    draw = ImageDraw.Draw(canvas)
    for points, value in polygons:
        draw.polygon((points * FINE - 0.5).ravel().tolist(), fill=value)
    return np.asarray(canvas.reduce(FINE))


def _background(texture: str | None, rng: np.random.Generator) -> tuple[Field, float]:
    """Paint the background (H,W,3); return it with its hue in turns."""
    x, y = _grid()
    angle = math.radians(rng.uniform(-20, 20))
    shift = rng.uniform(0, SIZE, 2).tolist()
    u = x * math.cos(angle) + y * math.sin(angle) + shift[0]
    v = y * math.cos(angle) - x * math.sin(angle) + shift[1]
    draw = plain if texture is None else TEXTURES[texture]
    share = draw(u, v, rng)[..., None].astype(np.float32)
    hue = rng.random()
    lightness = rng.uniform(0.26, 0.38)
    dark = oklch(lightness, rng.uniform(0.03, 0.08), hue)
    light = oklch(lightness + rng.uniform(0.2, 0.3), rng.uniform(0.04, 0.1), hue + rng.normal(0, 0.06))
    canvas = dark + (light - dark) * share
    # Light comes from one side and fades towards the corners.
    sun = rng.uniform(0, 2 * math.pi)
    side = (x * math.cos(sun) + y * math.sin(sun)) / (SIZE / 2)
    corner = (x**2 + y**2) / (SIZE**2 / 2)
    glow = 1 + 0.12 * side - 0.2 * corner + 0.06 * noise(rng, x.shape, 3)
    return (canvas * glow[..., None]).astype(np.float32), hue


def _paint_object(canvas: Field, coverage: Field, marks: Field, hue: float, rng: np.random.Generator) -> None:
    """Paint the object and its shadow onto the canvas, in place."""
    hue += 0.5 + rng.uniform(-0.28, 0.28)  # contrasts with the background
    lightness, chroma = rng.uniform(0.7, 0.84), rng.uniform(0.09, 0.16)
    base = oklch(lightness, chroma, hue)
    bright = oklch(min(lightness + 0.14, 0.97), chroma * 0.6, hue + 0.03)
    deep = oklch(lightness - 0.3, chroma, hue - 0.04)
    sun = math.radians(rng.uniform(200, 340))  # from above
    toward = (math.cos(sun), math.sin(sun))

    fall_x, fall_y = (_blur_matrix(2.2, -round(3 * part)) for part in toward)
    shadow = fall_y @ coverage @ fall_x.T
    canvas *= 1 - 0.5 * shadow[..., None]

    smooth, slope = _blur_matrix(1.8), _slope_matrix(1.8)
    slope_x, slope_y = smooth @ coverage @ slope.T, slope @ coverage @ smooth.T
    lit = -(slope_x * toward[0] + slope_y * toward[1]) * 3.2  # > 0 on the side of the sun
    x, y = _grid()
    mass = coverage.sum()
    from_centre = (x - (x * coverage).sum() / mass) * toward[0] + (y - (y * coverage).sum() / mass) * toward[1]
    tone = np.clip(lit + 0.022 * from_centre, -1, 1)
    rim = np.clip((0.8 - _blur(coverage, 0.9)) * 1.6, 0, 1) * rng.uniform(0.2, 0.8)
    tone = np.clip(tone - rim, -1, 1)
    tone = np.clip(tone * (1 - np.abs(marks)) + marks * 0.9, -1, 1)[..., None]
    paint = np.where(tone > 0, base + (bright - base) * tone, base + (deep - base) * -tone)
    canvas += (paint - canvas) * coverage[..., None]


def _clicks(coverage: Field, focus: Points, radius: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Simulate people who click on the diagnostic parts of the object; return the blurred clicks (H,W)."""
    middle = np.arange(SIZE, dtype=np.float32) + 0.5
    near = np.exp(-((middle - focus[..., None]) ** 2) / (2 * (FOCUS * radius) ** 2))  # (N,2,SIZE), x then y
    interest = coverage**2 * (0.35 + near[:, 1].T @ near[:, 0])  # less at the edge, which is partly background
    cumulative = interest.ravel().cumsum(dtype=np.float64)
    hits = np.searchsorted(cumulative, rng.random(PEOPLE * CLICKS) * cumulative[-1])
    heat = _blur(np.bincount(hits, minlength=SIZE * SIZE).reshape(SIZE, SIZE).astype(np.float32), CLICK_BLUR)
    grey: NDArray[np.uint8] = np.rint(heat / heat.max() * 255).astype(np.uint8)
    return grey


def _blur(field: Field, deviation: float) -> Field:
    """Blur with a Gaussian and zero padding."""
    kernel = _blur_matrix(deviation)
    return kernel @ field @ kernel.T


@lru_cache
def _blur_matrix(deviation: float, shift: int = 0) -> Field:
    """Return the (SIZE,SIZE) matrix that blurs columns and shifts them down by ``shift`` pixels."""
    offset = np.arange(SIZE)[:, None] - np.arange(SIZE) - shift
    whole = np.arange(-SIZE, SIZE + 1)
    weight = np.exp(-(offset**2) / (2 * deviation**2)) / np.exp(-(whole**2) / (2 * deviation**2)).sum()
    matrix: Field = weight.astype(np.float32)
    return matrix


@lru_cache
def _slope_matrix(deviation: float) -> Field:
    """Return the (SIZE,SIZE) matrix that blurs columns and differentiates along them."""
    matrix: Field = np.gradient(_blur_matrix(deviation), axis=0)
    return matrix


@lru_cache
def _grid() -> tuple[Field, Field]:
    """Return each pixel's x and y, each (SIZE,SIZE), from the image's centre."""
    middle = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    x, y = np.meshgrid(middle, middle)
    return x, y


def oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """Convert a colour of the perceptually uniform space OKLCH (hue in turns) to sRGB, clipped to its gamut.

    Reference:
        Ottosson 2020, "A perceptual color space for image processing".
    """
    a, b = chroma * math.cos(2 * math.pi * hue), chroma * math.sin(2 * math.pi * hue)
    long, medium, short = (
        (lightness + a * ka + b * kb) ** 3
        for ka, kb in ((0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.2914855480))
    )
    linear = np.array(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ]
    ).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded.astype(np.float32)
