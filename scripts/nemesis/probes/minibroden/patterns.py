"""Textures: each pattern is a field in [0, 1] that mixes two colours.

A pattern gets coordinates u, v (h, w), turned and scaled so that one period is 1, and a random
generator; it returns float32 (h, w).
"""

import numpy as np


def draw_pattern(kind: str, y, x, period: float, angle: float, rng) -> np.ndarray:
    """Field (h, w) in [0, 1]; y (h, 1), x (1, w) and period in reference pixels, angle in radians."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y, x = np.float32(y / period), np.float32(x / period)
    u, v = cos * x + sin * y, cos * y - sin * x
    return np.clip(PATTERNS[kind](u, v, rng), 0, 1).astype(np.float32)


def _edge(value, sharpness=8.0):
    """A soft step: 0 below zero, 1 above."""
    return np.clip(value * sharpness + 0.5, 0, 1)


def _wave(value):
    return np.sin(2 * np.pi * value)


def _from_centre(value):
    """Distance to the centre of the unit cell, -0.5 ... 0.5."""
    return value - np.floor(value) - 0.5


def _striped(u, v, rng):
    return _edge(_wave(u) - rng.uniform(-0.4, 0.4), 3)


def _banded(u, v, rng):
    return _edge(_wave(u / 2) + 0.6 * _wave(u * 1.5 + 0.2), 2)


def _dotted(u, v, rng):
    radius = np.hypot(_from_centre(u), _from_centre(v + 0.5 * np.floor(u)))
    return _edge(rng.uniform(0.26, 0.36) - radius, 12)


def _chequered(u, v, rng):
    return _edge(_wave(u / 2) * _wave(v / 2), 6)


def _zigzagged(u, v, rng):
    return _edge(_wave(u + 1.1 * np.abs(_from_centre(v / 1.6))), 3)


def _grid(u, v, rng):
    near = np.minimum(np.abs(_from_centre(u)), np.abs(_from_centre(v)))
    return _edge(rng.uniform(0.08, 0.13) - near, 14)


def _woven(u, v, rng):
    over = (np.floor(u) + np.floor(v)) % 2
    across = 1 - (2 * _from_centre(u)) ** 2
    along = 1 - (2 * _from_centre(v)) ** 2
    return np.where(over > 0, 0.15 + 0.5 * across, 0.35 + 0.65 * along)


def _swirly(u, v, rng):
    a, b = rng.uniform(0, 1, 2)
    return _edge(_wave(u + 0.45 * _wave(0.31 * v + a) + 0.3 * _wave(0.37 * u + 0.53 * v + b)), 3)


def _spiralled(u, v, rng):
    cell = 5.0
    cu, cv = _from_centre(u / cell) * cell, _from_centre(v / cell) * cell
    return _edge(_wave(np.hypot(cu, cv) + np.arctan2(cv, cu) / (2 * np.pi)), 3)


def _cells(u, v, rng, jitter=0.9):
    """Distance to the nearest and to the second nearest of one jittered point per cell."""
    table = rng.random((16, 16, 2), dtype=np.float32) * jitter + (1 - jitter) / 2
    iu, iv = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    fu, fv = u - iu, v - iv
    first = np.full(u.shape, 9.0, dtype=np.float32)
    second = first.copy()
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            point = table[(iv + dv) % 16, (iu + du) % 16]
            distance = np.hypot(point[..., 0] + du - fu, point[..., 1] + dv - fv)
            second = np.minimum(second, np.maximum(first, distance))
            first = np.minimum(first, distance)
    return first, second


def _cracked(u, v, rng):
    first, second = _cells(u / 1.6, v / 1.6, rng)
    return _edge(0.07 - (second - first), 12)


def _bubbly(u, v, rng):
    first, _ = _cells(u / 1.3, v / 1.3, rng, jitter=0.5)
    return np.where(first < 0.42, 0.35 + 0.65 * _edge(first - 0.3, 9), 0.1)


def _scaly(u, v, rng):
    row = np.floor(v * 2)
    radius = np.hypot(_from_centre(u + 0.5 * (row % 2)), v * 2 - row - 0.1)
    return np.clip(1.15 - 1.3 * radius, 0, 1) * _edge(0.62 - radius, 9) + 0.05


def _honeycombed(u, v, rng):
    v = v / np.float32(np.sqrt(3))
    a = np.hypot(_from_centre(u), _from_centre(v) * np.sqrt(3))
    b = np.hypot(_from_centre(u + 0.5), _from_centre(v + 0.5) * np.sqrt(3))
    return _edge(0.09 - np.abs(a - b), 10)


def _crosshatched(u, v, rng):
    return 1 - 0.5 * _edge(_wave(u * 1.3) - 0.5, 4) - 0.5 * _edge(_wave(v * 1.3) - 0.5, 4)


def _marbled(u, v, rng):
    a, b, c = rng.uniform(0, 1, 3)
    warp = _wave(0.23 * u + 0.31 * v + a) + 0.5 * _wave(0.71 * v - 0.5 * u + b)
    return 1 - np.abs(_wave(0.35 * u + 0.6 * warp + 0.2 * _wave(1.3 * v + c))) ** 0.45


def _sprinkled(u, v, rng):
    first, _ = _cells(u, v, rng, jitter=0.8)
    return _edge(0.2 - first, 10)


def _cobwebbed(u, v, rng):
    cell = 6.0
    cu, cv = _from_centre(u / cell) * cell, _from_centre(v / cell) * cell
    radius, turn = np.hypot(cu, cv), np.arctan2(cv, cu) / (2 * np.pi) * 8
    spokes = np.abs(_from_centre(turn)) * radius / 3
    rings = np.abs(_from_centre(radius + 0.3 * np.abs(_from_centre(turn))))
    return np.maximum(_edge(0.08 - spokes, 9), _edge(0.09 - rings, 9))


def _starry(u, v, rng):
    cu, cv = _from_centre(u), _from_centre(v + 0.5 * np.floor(u))
    reach = 0.24 + 0.13 * np.cos(5 * np.arctan2(cv, cu))
    return _edge(reach - np.hypot(cu, cv), 10)


PATTERNS = {
    "striped": _striped,
    "banded": _banded,
    "dotted": _dotted,
    "chequered": _chequered,
    "zigzagged": _zigzagged,
    "grid": _grid,
    "woven": _woven,
    "swirly": _swirly,
    "spiralled": _spiralled,
    "cracked": _cracked,
    "bubbly": _bubbly,
    "scaly": _scaly,
    "honeycombed": _honeycombed,
    "crosshatched": _crosshatched,
    "marbled": _marbled,
    "sprinkled": _sprinkled,
    "cobwebbed": _cobwebbed,
    "starry": _starry,
}
