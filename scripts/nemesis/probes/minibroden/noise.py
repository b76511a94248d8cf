"""Tileable noise fields, made once a process from a fixed seed and read at random offsets."""

from functools import cache

import numpy as np

SIDE = 512  # side of a stored field, in reference pixels


def noise(kind: str, y, x, rng) -> np.ndarray:
    """Field of values with mean 0 and deviation about 1.

    y (h, 1) and x (1, w) are coordinates in reference pixels; the result is (h, w) float32.
    """
    dy, dx = rng.integers(0, SIDE, 2)
    rows = (np.floor(y).astype(np.int64).ravel() + dy) % SIDE
    columns = (np.floor(x).astype(np.int64).ravel() + dx) % SIDE
    return noise_field(kind).take(rows, axis=0).take(columns, axis=1)


# kind: (power of the fall-off, stretch along x, stretch along y, shortest wavelength in pixels)
_KINDS = {
    "cloud": (1.9, 1.0, 1.0, 12.0),
    "blotch": (1.2, 1.0, 1.0, 8.0),
    "grain": (0.4, 1.0, 1.0, 5.0),
    "rows": (0.9, 7.0, 1.0, 6.0),
    "columns": (0.9, 1.0, 3.2, 6.0),
    "leaves": (0.7, 1.0, 1.0, 9.0),
}


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
