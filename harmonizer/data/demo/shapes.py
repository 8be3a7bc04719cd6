"""The objects of the demo data: recognisable outlines as polygons in a box of [-1,1] x [-1,1], y downwards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(N,2) corners of a polygon as (x,y)."""


@dataclass
class Drawing:
    """An object's parts."""

    # polygons of the silhouette; True adds to it, False cuts a hole
    body: list[tuple[Points, bool]] = field(default_factory=list)
    # polygons on the body with their tones, from -1 (dark) to 1 (light)
    marks: list[tuple[Points, float]] = field(default_factory=list)
    # (x,y) of the diagnostic parts, which distinguish this object from the others
    focus: list[tuple[float, float]] = field(default_factory=list)


def fish(rng: np.random.Generator) -> Drawing:
    """Draw a fish that faces left."""
    height = rng.uniform(0.42, 0.58)
    tail = rng.uniform(0.38, 0.55)
    body = ellipse(-0.2, 0, 0.72, height)
    caudal = curve([(0.3, 0), (0.68, -0.12), (0.98, -tail), (0.84, 0), (0.98, tail), (0.68, 0.12)])
    dorsal = curve([(-0.5, -height * 0.75), (-0.12, -height - 0.26), (0.3, -height * 0.6), (0, -height * 0.4)])
    marks = [
        (ellipse(-0.58, -0.1, 0.1, 0.1), 1.0),
        (ellipse(-0.6, -0.1, 0.055, 0.055), -1.0),
        (stroke(arc(-0.52, 0, 0.26, 0.36, -55, 55), 0.05), -0.6),
        *((stroke([(x, -0.05), (x + 0.24, 0)], 0.05), -0.35) for x in (0.52,)),
    ]
    return Drawing([(body, True), (caudal, True), (dorsal, True)], marks, [(-0.55, -0.05), (0.75, 0), (-0.15, -0.3)])


def leaf(rng: np.random.Generator) -> Drawing:
    """Draw a leaf with veins and its tip at the top."""
    width = rng.uniform(0.42, 0.56)
    t = np.linspace(0, 1, 24)
    half = width * np.sin(np.pi * t**0.8) * (1 + 0.05 * np.sin(t * 2 * np.pi * 7))
    right = np.stack([half, -0.98 + 1.56 * t], 1)
    outline = np.concatenate([right, right[::-1] * [-1, 1]])
    marks = [(stroke([(0, -0.75), (0, 0.6)], 0.06), -0.7)]
    for y in (-0.35, -0.05, 0.25):
        marks += [(stroke([(0, y + 0.14), (side * width * 0.68, y - 0.12)], 0.045), -0.5) for side in (-1, 1)]
    stem = stroke([(0, 0.5), (0.02, 0.78), (0.1, 0.98)], 0.11)
    return Drawing([(outline, True), (stem, True)], marks, [(0, -0.6), (0, 0.0), (0.03, 0.7)])


def star(rng: np.random.Generator) -> Drawing:
    """Draw a five-pointed star."""
    inner = rng.uniform(0.4, 0.5)
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.0, inner)
    corners = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    marks = [(np.array([(0, 0), corners[i], corners[i + 1]]), 0.35) for i in range(0, 10, 2)]
    return Drawing([(corners, True)], marks, [(0, 0), *(tuple(0.7 * corners[i]) for i in range(0, 10, 2))])


def moon(rng: np.random.Generator) -> Drawing:
    """Draw a crescent open to the right."""
    cut = rng.uniform(0.36, 0.5)
    outer = arc(0, 0, 0.98, 0.98, 48, 312)
    x, y = outer[0]
    radius = float(np.hypot(x - cut, y))
    turn = float(np.degrees(np.arctan2(y, x - cut)))
    inner = arc(cut, 0, radius, radius, 360 - turn, turn)
    marks = [(ellipse(-0.66, -0.2, 0.11, 0.11), -0.3), (ellipse(-0.5, 0.42, 0.14, 0.14), -0.3)]
    marks += [(ellipse(-0.36, -0.66, 0.08, 0.08), -0.3)]
    return Drawing([(np.concatenate([outer, inner]), True)], marks, [(-0.72, 0), (-0.3, -0.72), (-0.3, 0.72)])


def heart(rng: np.random.Generator) -> Drawing:
    """Draw a heart."""
    t = np.linspace(0, 2 * np.pi, 60)
    width, height = rng.uniform(0.9, 1.0), rng.uniform(0.92, 1.05)
    x = width * np.sin(t) ** 3
    y = -height * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16 - 0.1
    marks = [(stroke(arc(-0.45, -0.32, 0.3, 0.3, 170, 265), 0.1), 0.8)]
    return Drawing([(np.stack([x, y], 1), True)], marks, [(0, 0), (-0.45, -0.35), (0.45, -0.35), (0, 0.6)])


def key(rng: np.random.Generator) -> Drawing:
    """Draw a key with its bow at the top."""
    bow = rng.uniform(0.38, 0.46)
    body = [
        (ellipse(0, -0.55, bow, bow), True),
        (box(-0.11, -0.2, 0.11, 0.98), True),
        (box(0, 0.5, 0.42, 0.66), True),
        (box(0, 0.8, rng.uniform(0.3, 0.5), 0.96), True),
        (ellipse(0, -0.55, bow * 0.48, bow * 0.48), False),
    ]
    marks = [(box(-0.15, -0.17, 0.15, -0.06), -0.5), (stroke([(-0.04, 0.0), (-0.04, 0.9)], 0.05), 0.5)]
    return Drawing(body, marks, [(0, -0.55), (0.15, 0.73), (0, 0.2)])


def mug(rng: np.random.Generator) -> Drawing:
    """Draw a mug with its handle on the right."""
    foot = rng.uniform(0.4, 0.54)
    cup = np.concatenate([arc(-0.2, 0.62, foot, 0.2, 0, 180), [(-0.8, -0.6)], arc(-0.2, -0.6, 0.6, 0.2, 180, 360)])
    handle = stroke(arc(0.36, -0.02, 0.42, 0.4, -100, 100), 0.18)
    marks = [
        (ellipse(-0.2, -0.6, 0.49, 0.13), -0.75),
        (stroke(arc(-0.2, 0.0, 0.54, 0.2, 10, 170), 0.09), -0.45),
        (stroke([(-0.6, -0.28), (-0.52, 0.5)], 0.08), 0.5),
    ]
    return Drawing([(handle, True), (cup, True)], marks, [(0.7, 0), (-0.2, -0.6), (-0.2, 0.3)])


def mushroom(rng: np.random.Generator) -> Drawing:
    """Draw a mushroom with a dotted cap."""
    cap_height = rng.uniform(0.75, 0.95)
    cap = np.concatenate([arc(0, 0.08, 0.96, cap_height, 180, 360), arc(0, 0.08, 0.96, 0.16, 0, 180)])
    stem = curve([(-0.24, 0.1), (-0.2, 0.5), (-0.34, 0.92), (0, 0.99), (0.34, 0.92), (0.2, 0.5), (0.24, 0.1)])
    marks = [
        (ellipse(x, y, r, r * 0.85), 0.9) for x, y, r in ((-0.48, -0.2, 0.15), (0.05, -0.42, 0.18), (0.52, -0.12, 0.14))
    ]
    marks += [(box(-0.22, 0.2, 0.22, 0.3), -0.5)]
    return Drawing([(stem, True), (cap, True)], marks, [(0, -0.35), (-0.5, -0.1), (0.5, -0.1), (0, 0.6)])


def umbrella(rng: np.random.Generator) -> Drawing:
    """Draw an open umbrella."""
    reach = rng.uniform(0.86, 1.0)
    canopy = arc(0, 0, reach, 0.84, 180, 360)
    scallops = [arc(reach * x, 0, reach / 4, 0.15, 360, 180) for x in (0.75, 0.25, -0.25, -0.75)]
    pole = stroke([(0, -0.96), (0, 0.74)], 0.11)
    hook = stroke(arc(0.17, 0.74, 0.17, 0.2, 0, 180), 0.11)
    marks = [(stroke([(0, -0.8), (x * 0.6, -0.5), (x, -0.06)], 0.05), -0.6) for x in (-reach / 2, 0, reach / 2)]
    body = [(np.concatenate([canopy, *scallops]), True), (pole, True), (hook, True)]
    return Drawing(body, marks, [(0, -0.45), (-0.55, -0.2), (0.55, -0.2), (0.1, 0.75)])


def butterfly(rng: np.random.Generator) -> Drawing:
    """Draw a butterfly with spread wings."""
    upper = rng.uniform(0.8, 0.98)
    drawing = Drawing(focus=[(0, 0), (-0.6, -0.4), (0.6, -0.4), (0.0, -0.6)])
    for side in (-1.0, 1.0):
        fore = curve([(0.04, -0.05), (0.3, -0.62), (upper, -0.8), (0.92, -0.2), (0.5, 0.08)]) * [side, 1]
        hind = curve([(0.04, 0), (0.5, 0.02), (0.76, 0.4), (0.5, 0.82), (0.2, 0.55)]) * [side, 1]
        feeler = stroke(np.array([(0.02, -0.5), (0.1, -0.74), (0.24, -0.92)]) * [side, 1], 0.06)
        drawing.body += [(fore, True), (hind, True), (feeler, True)]
        drawing.marks += [(ellipse(side * 0.62, -0.45, 0.15, 0.15), 0.8), (ellipse(side * 0.45, 0.42, 0.11, 0.11), 0.8)]
    drawing.body.append((ellipse(0, 0.02, 0.11, 0.58), True))
    drawing.marks.append((ellipse(0, 0.02, 0.09, 0.54), -0.8))
    return drawing


SHAPES: Mapping[str, Callable[[np.random.Generator], Drawing]] = {
    shape.__name__: shape for shape in (butterfly, fish, heart, key, leaf, moon, mug, mushroom, star, umbrella)
}
"""Drawing functions by class name; their order is the order of the labels."""


def ellipse(x: float, y: float, a: float, b: float) -> Points:
    """Return an ellipse around (x,y) with half axes a and b."""
    return arc(x, y, a, b, 0, 360)


def arc(x: float, y: float, a: float, b: float, start: float, stop: float) -> Points:
    """Return an arc of such an ellipse, in degrees clockwise from the right."""
    angle = np.radians(np.linspace(start, stop, 25))
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], 1)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return a rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def curve(corners: list[tuple[float, float]]) -> Points:
    """Return a closed outline rounded at its corners: a uniform Catmull-Rom spline through them."""
    p = np.array(corners)
    t = np.linspace(0, 1, 8, endpoint=False)[:, None]
    before, after, last = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    pieces = [
        b + 0.5 * t * (c - a) + t**2 * (a - 2.5 * b + 2 * c - 0.5 * d) + 0.5 * t**3 * (3 * (b - c) + d - a)
        for a, b, c, d in zip(before, p, after, last, strict=True)
    ]
    return np.concatenate(pieces)


def stroke(line: list[tuple[float, float]] | Points, width: float) -> Points:
    """Return the outline of a line with a width."""
    p = np.asarray(line, dtype=np.float64)
    along = np.gradient(p, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1, keepdims=True)
    return np.concatenate([p + normal * width / 2, (p - normal * width / 2)[::-1]])
