"""Primitive shapes of the catalogue -> outlines -> masks.

A shape is a list `[kind, number, ...]` in an object's own units (x to the right, y down, the same
scale on both axes). An outline is an (n, 2) float array of points (x, y).
"""

import math

import numpy as np
from PIL import Image, ImageDraw

# kind: how many numbers it takes (None: an even number, six or more)
SHAPES = {
    "circle": 3,  # cx cy r
    "ellipse": 4,  # cx cy rx ry
    "rect": 4,  # x0 y0 x1 y1
    "round": 5,  # x0 y0 x1 y1 r: rectangle with rounded corners
    "poly": None,  # x y x y x y ...
    "line": 5,  # x0 y0 x1 y1 width, with round ends
    "arc": 7,  # cx cy rx ry start end width; degrees, clockwise from the right
    "dome": 4,  # x0 y0 x1 y1: the upper half of an ellipse
    "bowl": 4,  # x0 y0 x1 y1: the lower half of an ellipse
    "blob": 5,  # cx cy rx ry lobes: an ellipse with a lobed edge
    "star": 5,  # cx cy r inner points: inner is the inner radius as a share of r
}
SHAPE_POINTS = 28


def trace_shape(shape, rng) -> np.ndarray:
    """Outline of one shape, (n, 2). Only `blob` draws random numbers."""
    kind, *numbers = shape
    return _TRACERS[kind](rng, *numbers)


def rasterise(outlines, side: int):
    """Mask of the union of outlines (in canvas pixels) on a square canvas of `side` pixels.

    Returns (mask bool (h, w), y0, x0), cut to the outlines' box; None where nothing is visible.
    """
    points = np.concatenate(outlines)
    x0, y0 = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 2, side)
    if x1 <= x0 or y1 <= y0:
        return None
    picture = Image.new("L", (int(x1 - x0), int(y1 - y0)), 0)
    pen = ImageDraw.Draw(picture)
    for outline in outlines:
        pen.polygon([(float(x), float(y)) for x, y in outline - (x0, y0)], fill=255)
    mask = np.asarray(picture) > 0
    return (mask, int(y0), int(x0)) if mask.any() else None


def _ellipse(rng, cx, cy, rx, ry, start=0.0, end=360.0):
    angles = np.radians(np.linspace(start, end, SHAPE_POINTS, endpoint=end - start < 360))
    return np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], axis=1)


def _circle(rng, cx, cy, r):
    return _ellipse(rng, cx, cy, r, r)


def _rect(rng, x0, y0, x1, y1):
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float)


def _round(rng, x0, y0, x1, y1, r):
    r = min(r, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    corners = [(x1 - r, y1 - r, 0), (x0 + r, y1 - r, 90), (x0 + r, y0 + r, 180), (x1 - r, y0 + r, 270)]
    quarters = []
    for cx, cy, start in corners:
        angles = np.radians(np.linspace(start, start + 90, 7))
        quarters.append(np.stack([cx + r * np.cos(angles), cy + r * np.sin(angles)], axis=1))
    return np.concatenate(quarters)


def _poly(rng, *numbers):
    return np.array(numbers, dtype=float).reshape(-1, 2)


def _line(rng, x0, y0, x1, y1, width):
    heading = math.atan2(y1 - y0, x1 - x0)
    angles = np.linspace(math.pi / 2, 3 * math.pi / 2, 9)
    ends = []
    for cx, cy, turn in ((x0, y0, 0.0), (x1, y1, math.pi)):
        a = angles + heading + turn
        ends.append(np.stack([cx + width / 2 * np.cos(a), cy + width / 2 * np.sin(a)], axis=1))
    return np.concatenate(ends)


def _arc(rng, cx, cy, rx, ry, start, end, width):
    outer = _ellipse(rng, cx, cy, rx + width / 2, ry + width / 2, start, end)
    inner = _ellipse(rng, cx, cy, rx - width / 2, ry - width / 2, start, end)
    if end - start >= 360:  # close the ring, or a slit is left
        outer, inner = np.concatenate([outer, outer[:1]]), np.concatenate([inner, inner[:1]])
    return np.concatenate([outer, inner[::-1]])


def _dome(rng, x0, y0, x1, y1):
    return _ellipse(rng, (x0 + x1) / 2, y1, (x1 - x0) / 2, y1 - y0, 180, 360 - 1e-6)


def _bowl(rng, x0, y0, x1, y1):
    return _ellipse(rng, (x0 + x1) / 2, y0, (x1 - x0) / 2, y1 - y0, 0, 180)


def _blob(rng, cx, cy, rx, ry, lobes):
    angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    phase, skew = rng.uniform(0, 2 * math.pi, 2)
    radius = 0.86 + 0.14 * np.abs(np.sin(angles * lobes / 2 + phase)) + 0.06 * np.sin(2 * angles + skew)
    return np.stack([cx + rx * radius * np.cos(angles), cy + ry * radius * np.sin(angles)], axis=1)


def _star(rng, cx, cy, r, inner, points):
    angles = np.arange(2 * int(points)) * math.pi / points - math.pi / 2
    radius = np.where(np.arange(2 * int(points)) % 2 == 0, r, r * inner)
    return np.stack([cx + radius * np.cos(angles), cy + radius * np.sin(angles)], axis=1)


_TRACERS = {
    "circle": _circle,
    "ellipse": _ellipse,
    "rect": _rect,
    "round": _round,
    "poly": _poly,
    "line": _line,
    "arc": _arc,
    "dome": _dome,
    "bowl": _bowl,
    "blob": _blob,
    "star": _star,
}
