"""Basic colour names of pixels: the nearest prototype in CIELAB."""

from functools import cache

import numpy as np

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=np.float32)
_WHITE = np.array([0.9505, 1.0, 1.089], dtype=np.float32)


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1], (..., 3) -> CIELAB (..., 3)."""
    rgb = np.asarray(rgb, dtype=np.float32)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def name_colours(prototypes: dict, rgb: np.ndarray) -> np.ndarray:
    """Index into the names of `prototypes` for each pixel of rgb (h, w, 3) -> (h, w)."""
    lab, owner = _prototype_table(tuple((name, tuple(shades)) for name, shades in prototypes.items()))
    weight = np.float32((0.7, 1.0, 1.0))  # lightness says less about a name than hue
    lab = lab * weight  # (prototypes, 3)
    scores = to_lab(rgb) * weight @ (2 * lab.T) - (lab**2).sum(axis=1)  # (h, w, prototypes)
    return owner[scores.argmax(axis=-1)]  # the largest score is the smallest distance


@cache
def _prototype_table(prototypes: tuple):
    shades = [shade for _, shades in prototypes for shade in shades]
    owner = [i for i, (_, shades) in enumerate(prototypes) for _ in shades]
    return to_lab(np.array(shades)), np.array(owner)
