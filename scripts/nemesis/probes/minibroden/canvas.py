"""The canvas: a supersampled picture and, for each of its pixels, the region painted last.

One plane of region numbers is enough: a table says what a region is (object, part, ...), so
occlusion is exact for all categories at once.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from nemesis.probes.minibroden.patterns import draw_pattern
from nemesis.probes.minibroden.shapes import rasterise
from nemesis.probes.minibroden.surfaces import draw_surface

SUPERSAMPLE = 2  # canvas pixels to a picture pixel
REFERENCE = 384  # canvas side at which the surfaces' and patterns' sizes are written


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
class Region:
    """What a painted region is, in concept names."""

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
        self.regions = [Region(0, None)]
        self.light = rng.uniform(-0.9, 0.9)  # where light comes from: -1 left, 1 right

    def paint(self, outlines, region: Region, relief: float = 0.3, origin=None):
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


def _blurred(mask, radius: float) -> np.ndarray:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    for _ in range(2):
        picture = picture.filter(ImageFilter.BoxBlur(float(radius) / 1.5))
    return np.asarray(picture, dtype=np.float32) / 255
