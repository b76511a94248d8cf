"""The canvas: shapes become outlines and masks, and are painted; every pixel knows the region painted last.

The picture is supersampled. One plane of region numbers is enough: a table says what a region is (object, part, ...),
so occlusion is exact for all categories at once.

A shape is a list `[kind, number, ...]` in an object's own units (x to the right, y down, the same scale on both axes).
An outline is an (n, 2) float array of points (x, y).
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from nemesis.probes.minibroden.patterns import draw_pattern
from nemesis.probes.minibroden.surfaces import draw_surface

SUPERSAMPLE = 2  # canvas pixels to a picture pixel
REFERENCE = 384  # canvas side at which the surfaces' and patterns' sizes are written
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


@dataclass(frozen=True)
class Look:
    """How a region is painted: base colour and name, surface, and perhaps a texture over it."""

    rgb: tuple
    colour: str
    surface: str = "matte"
    material: str | None = None
    texture: str | None = None
    texture_rgb: tuple = (1.0, 1.0, 1.0)
    texture_colour: str = "white"
    period: float = 18.0  # reference pixels
    angle: float = 0.0


@dataclass(frozen=True)
class PaintedRegion:
    """What a region of a picture is, in concept names."""

    instance: int
    object: str | None
    nested: str | None = None  # an object on the object
    part: str | None = None
    subpart: str | None = None  # a part on the part
    look: Look | None = None


class Canvas:
    """RGB float32 (S, S, 3) in [0, 1] and region numbers uint16 (S, S); S = size * SUPERSAMPLE."""

    def __init__(self, size: int, rng):
        self.size, self.side, self.rng = size, size * SUPERSAMPLE, rng
        self.rgb = np.zeros((self.side, self.side, 3), dtype=np.float32)
        self.plane = np.zeros((self.side, self.side), dtype=np.uint16)
        self.regions = [PaintedRegion(0, None)]
        self.light = rng.uniform(-0.9, 0.9)  # where light comes from: -1 left, 1 right

    def paint(self, outlines, region: PaintedRegion, relief: float = 0.3, origin=None):
        """Paint outlines (canvas pixels) as one region; `origin` (y, x) moves its surface along."""
        found = rasterise(outlines, self.side)
        if found is None:
            return
        mask, y0, x0 = found
        self.regions.append(region)
        box = np.s_[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
        rgb = self._render(region.look, y0, x0, mask.shape, origin)
        if relief:
            rgb *= (1 + relief * self._relief(mask))[..., None]
        if mask.all():
            self.rgb[box], self.plane[box] = rgb, len(self.regions) - 1
        else:
            np.copyto(self.rgb[box], rgb, where=mask[..., None])
            np.copyto(self.plane[box], np.uint16(len(self.regions) - 1), where=mask)

    def darken(self, outlines, strength: float, blur: float):
        """Multiply a soft shadow into the picture; blur in canvas pixels."""
        found = rasterise(outlines, self.side)
        if found is None:
            return
        mask, y0, x0 = found
        pad = int(2 * blur) + 1
        top, left = max(y0 - pad, 0), max(x0 - pad, 0)
        bottom, right = min(y0 + mask.shape[0] + pad, self.side), min(x0 + mask.shape[1] + pad, self.side)
        soft = _blurred(np.pad(mask, pad), blur)
        soft = soft[top - y0 + pad :, left - x0 + pad :][: bottom - top, : right - left]
        self.rgb[top:bottom, left:right] *= (1 - strength * soft)[..., None]

    def labels(self) -> np.ndarray:
        """Region numbers at the centres of the label pixels, (size / 2, size / 2)."""
        step = 2 * SUPERSAMPLE
        return self.plane[step // 2 :: step, step // 2 :: step]

    def picture(self) -> np.ndarray:
        """RGB float32 (size, size, 3): the mean over each picture pixel's samples."""
        steps = range(SUPERSAMPLE)
        total = sum(self.rgb[i::SUPERSAMPLE, j::SUPERSAMPLE] for i in steps for j in steps)
        return total / np.float32(SUPERSAMPLE**2)

    def _render(self, look: Look, y0, x0, shape, origin):
        scale = REFERENCE / self.side
        oy, ox = origin if origin is not None else (0.0, 0.0)
        y = ((np.arange(y0, y0 + shape[0]) - oy) * scale)[:, None]
        x = ((np.arange(x0, x0 + shape[1]) - ox) * scale)[None, :]
        rgb = draw_surface(look.surface, y, x, look.rgb, self.rng)
        if look.texture is None:
            return rgb.copy()
        share = draw_pattern(look.texture, y, x, look.period, look.angle, self.rng)
        tone = rgb.mean(axis=2, keepdims=True) / max(float(np.mean(look.rgb)), 0.05)
        return rgb + (np.float32(look.texture_rgb) * tone - rgb) * share[..., None]

    def _relief(self, mask):
        """Bright where an edge faces the light, dark where it turns away, about -1 ... 1."""
        reach = max(2, min(mask.shape) // 8)
        soft = _blurred(np.pad(mask, reach), reach)
        h, w = mask.shape
        dx = soft[reach : reach + h, :w] - soft[reach : reach + h, 2 * reach :]
        dy = soft[:h, reach : reach + w] - soft[2 * reach :, reach : reach + w]
        return np.clip(self.light * dx - 0.8 * dy, -1, 1)


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


def _blurred(mask, radius: float) -> np.ndarray:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    for _ in range(2):
        picture = picture.filter(ImageFilter.BoxBlur(float(radius) / 1.5))
    return np.asarray(picture, dtype=np.float32) / 255


def _trace_ellipse(cx, cy, rx, ry, start=0.0, end=360.0):
    angles = np.radians(np.linspace(start, end, SHAPE_POINTS, endpoint=end - start < 360))
    return np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], axis=1)


def _ellipse(rng, cx, cy, rx, ry):
    return _trace_ellipse(cx, cy, rx, ry)


def _circle(rng, cx, cy, r):
    return _trace_ellipse(cx, cy, r, r)


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


def _arc(rng, *numbers):
    cx, cy, rx, ry, start, end, width = numbers
    outer = _trace_ellipse(cx, cy, rx + width / 2, ry + width / 2, start, end)
    inner = _trace_ellipse(cx, cy, rx - width / 2, ry - width / 2, start, end)
    if end - start >= 360:  # close the ring, or a slit is left
        outer, inner = np.concatenate([outer, outer[:1]]), np.concatenate([inner, inner[:1]])
    return np.concatenate([outer, inner[::-1]])


def _dome(rng, x0, y0, x1, y1):
    return _trace_ellipse((x0 + x1) / 2, y1, (x1 - x0) / 2, y1 - y0, 180, 360 - 1e-6)


def _bowl(rng, x0, y0, x1, y1):
    return _trace_ellipse((x0 + x1) / 2, y0, (x1 - x0) / 2, y1 - y0, 0, 180)


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
