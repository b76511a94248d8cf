"""Surfaces: what a material looks like in a given base colour.

A surface gets coordinates y (h, 1) and x (1, w) in reference pixels, a base colour (3,) in [0, 1]
and a random generator; it returns RGB float32 (h, w, 3), not yet shaded and not clipped.

Noise fields are tileable, made once a process from a fixed seed and read at random offsets.
"""

from functools import cache

import numpy as np

SIDE = 512  # side of a stored field, in reference pixels
# kind: (power of the fall-off, stretch along x, stretch along y, shortest wavelength in pixels)
_KINDS = {
    "cloud": (1.9, 1.0, 1.0, 12.0),
    "blotch": (1.2, 1.0, 1.0, 8.0),
    "grain": (0.4, 1.0, 1.0, 5.0),
    "rows": (0.9, 7.0, 1.0, 6.0),
    "columns": (0.9, 1.0, 3.2, 6.0),
    "leaves": (0.7, 1.0, 1.0, 9.0),
}


def draw_surface(kind: str, y, x, base, rng) -> np.ndarray:
    """RGB (h, w, 3) of a surface named in the catalogue."""
    y, x = np.float32(y), np.float32(x)
    return SURFACES[kind](y, x, np.float32(base), rng).astype(np.float32)


def noise(kind: str, y, x, rng) -> np.ndarray:
    """Field of values with mean 0 and deviation about 1.

    y (h, 1) and x (1, w) are coordinates in reference pixels; the result is (h, w) float32.
    """
    dy, dx = rng.integers(0, SIDE, 2)
    rows = (np.floor(y).astype(np.int64).ravel() + dy) % SIDE
    columns = (np.floor(x).astype(np.int64).ravel() + dx) % SIDE
    return noise_field(kind).take(rows, axis=0).take(columns, axis=1)


@cache
def noise_field(kind: str) -> np.ndarray:
    """One stored field, (SIDE, SIDE) float32: white noise shaped in the frequency domain."""
    power, along_x, along_y, shortest = _KINDS[kind]
    number = sorted(_KINDS).index(kind)
    white = np.random.Generator(np.random.Philox(1000 + number)).standard_normal((SIDE, SIDE))
    fy = np.fft.fftfreq(SIDE)[:, None] * along_y
    fx = np.fft.rfftfreq(SIDE)[None, :] * along_x
    radius = np.sqrt(fy**2 + fx**2)
    radius[0, 0] = 1.0
    gain = radius**-power * np.exp(-((radius * shortest) ** 2) / 2)
    gain[0, 0] = 0.0
    field = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(SIDE, SIDE))
    # Rounding hides last-bit differences between processors.
    return (np.round(field / field.std() * 64) / 64).clip(-3, 3).astype(np.float32)


def _toned(base, tone):
    """Base colour made lighter or darker by tone (h, w), 0 = unchanged."""
    return base * (1 + tone)[..., None]


def _mixed(base, other, share):
    """Base colour where share (h, w) is 0, the other where it is 1."""
    return base + (np.float32(other) - base) * share[..., None]


def _smooth(y, x, base, rng):
    return _toned(base, 0.03 * noise("cloud", y, x, rng))


def _matte(y, x, base, rng):
    return _toned(base, 0.05 * noise("cloud", y, x, rng) + 0.03 * noise("grain", y, x, rng))


def _wood(y, x, base, rng):
    field = noise("rows", y, x, rng)
    rings = np.sin(y / rng.uniform(4, 7) + 1.6 * field)
    tone = 0.13 * rings + 0.08 * field
    plank = rng.uniform(34, 60)
    return _toned(base, tone - 0.3 * ((y % plank) < 3))


def _brick(y, x, base, rng):
    height, length = 13 * rng.uniform(0.9, 1.4), 30 * rng.uniform(0.9, 1.3)
    row = np.floor(y / height)
    column = np.floor(x / length + 0.5 * (row % 2))
    joint = ((y / height - row) < 0.16) | ((x / length + 0.5 * (row % 2) - column) < 0.075)
    tints = rng.uniform(-0.16, 0.16, (32, 32)).astype(np.float32)
    tone = tints[row.astype(int) % 32, column.astype(int) % 32] + 0.06 * noise("grain", y, x, rng)
    return _mixed(_toned(base, tone), (0.78, 0.75, 0.7), 0.8 * joint)


def _stone(y, x, base, rng):
    field = noise("blotch", y, x, rng)
    cracks = np.abs(noise("cloud", y, x, rng)) < 0.07
    return _toned(base, 0.14 * field + 0.08 * noise("grain", y, x, rng) - 0.25 * cracks)


def _metal(y, x, base, rng):
    sheen = np.sin(y / rng.uniform(18, 40) + x / 70 + rng.uniform(0, 6))
    return _toned(base, 0.16 * sheen + 0.05 * noise("rows", y, x, rng))


def _glass(y, x, base, rng):
    bars = np.sin((x + y) / rng.uniform(11, 22) + rng.uniform(0, 6))
    return _mixed(_toned(base, 0.08 * noise("cloud", y, x, rng)), (0.93, 0.97, 1.0), 0.5 * (bars > 0.45))


def _fabric(y, x, base, rng):
    weave = np.sin(x * 1.05) * np.sin(y * 1.05)
    return _toned(base, 0.11 * weave + 0.08 * noise("cloud", y, x, rng))


def _leather(y, x, base, rng):
    return _toned(base, 0.1 * np.abs(noise("leaves", y, x, rng)) - 0.1 + 0.09 * noise("cloud", y, x, rng))


def _sand(y, x, base, rng):
    ripple = np.sin(y / 6 + 2 * noise("rows", y, x, rng))
    return _toned(base, 0.1 * noise("grain", y, x, rng) + 0.05 * ripple + 0.05 * noise("cloud", y, x, rng))


def _water(y, x, base, rng):
    ripple = np.sin(y / rng.uniform(4, 7) + 2.2 * noise("rows", y, x, rng))
    return _mixed(_toned(base, 0.1 * ripple), (0.9, 0.97, 1.0), 0.35 * (ripple > 0.8))


def _grass(y, x, base, rng):
    blades = noise("columns", y, x, rng)
    return _toned(base, 0.2 * blades + 0.08 * noise("cloud", y, x, rng)) * np.float32((1, 1, 0.9))


def _foliage(y, x, base, rng):
    return _toned(base, 0.22 * noise("leaves", y, x, rng) + 0.1 * noise("blotch", y, x, rng))


def _fur(y, x, base, rng):
    return _toned(base, 0.13 * noise("columns", y, x, rng) + 0.08 * noise("blotch", y, x, rng))


def _bark(y, x, base, rng):
    return _toned(base, 0.26 * noise("columns", y, x, rng))


def _plastic(y, x, base, rng):
    shine = np.sin((x - y) / 55 + rng.uniform(0, 6))
    return _mixed(np.broadcast_to(base, (*shine.shape, 3)), (1, 1, 1), 0.22 * (shine > 0.8))


def _ceramic(y, x, base, rng):
    shine = np.sin((x * 1.3 - y * 0.4) / 40 + rng.uniform(0, 6))
    return _mixed(np.broadcast_to(base, (*shine.shape, 3)), (1, 1, 1), 0.25 * np.clip(shine, 0, 1) ** 3)


def _tile(y, x, base, rng):
    side = rng.uniform(26, 46)
    joint = ((y % side) < 2.6) | ((x % side) < 2.6)
    tints = rng.uniform(-0.05, 0.05, (32, 32)).astype(np.float32)
    tone = tints[np.floor(y / side).astype(int) % 32, np.floor(x / side).astype(int) % 32]
    return _toned(base, tone - 0.22 * joint)


def _asphalt(y, x, base, rng):
    return _toned(base, 0.13 * noise("grain", y, x, rng) + 0.06 * noise("rows", y, x, rng))


def _snow(y, x, base, rng):
    return _toned(base, 0.04 * noise("cloud", y, x, rng) + 0.03 * noise("grain", y, x, rng))


def _paper(y, x, base, rng):
    return _toned(base, 0.03 * noise("grain", y, x, rng) - 0.12 * ((y % 9) < 2))


def _feathers(y, x, base, rng):
    return _toned(base, 0.1 * np.sin(y / 2.6 + 3 * np.sin(x / 4.5)) + 0.07 * noise("blotch", y, x, rng))


def _sky(y, x, base, rng):
    haze = np.clip(y / 384, 0, 1) ** 1.2 + 0 * x
    clouds = np.clip(noise("cloud", y, x, rng) - rng.uniform(0.2, 1.6), 0, 1)
    return _mixed(_mixed(base, 0.45 * base + 0.55, 0.9 * haze), (1, 1, 1), 0.6 * clouds)


def _dusk(y, x, base, rng):
    low = np.clip(y / 230, 0, 1) + 0 * x
    warm = _mixed(base, (1.0, 0.66, 0.35), 0.85 * low)
    return _mixed(warm, (1.0, 0.85, 0.75), 0.3 * np.clip(noise("rows", y, x, rng) - 0.4, 0, 1))


def _night(y, x, base, rng):
    stars = noise("grain", y, x, rng) > 2.6
    return _mixed(_toned(base, np.clip(y / 500, 0, 1) + 0 * x), (1, 1, 0.9), 0.8 * stars)


def _deep(y, x, base, rng):
    rays = np.clip(np.sin((x + 0.4 * y) / 38 + rng.uniform(0, 6)), 0, 1) * np.clip(1 - y / 330, 0, 1)
    return _mixed(_toned(base, 0.15 - y / 600 + 0.05 * noise("cloud", y, x, rng)), (0.8, 1, 1), 0.25 * rays)


SURFACES = {
    "smooth": _smooth,
    "matte": _matte,
    "wood": _wood,
    "brick": _brick,
    "stone": _stone,
    "metal": _metal,
    "glass": _glass,
    "fabric": _fabric,
    "leather": _leather,
    "sand": _sand,
    "water": _water,
    "grass": _grass,
    "foliage": _foliage,
    "fur": _fur,
    "bark": _bark,
    "plastic": _plastic,
    "ceramic": _ceramic,
    "tile": _tile,
    "asphalt": _asphalt,
    "snow": _snow,
    "paper": _paper,
    "feathers": _feathers,
    "sky": _sky,
    "dusk": _dusk,
    "night": _night,
    "deep": _deep,
}
