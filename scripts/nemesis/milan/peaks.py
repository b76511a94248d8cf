"""Where units fire most: top images, and the level above which an activation belongs to a mask.

As MILAN's exemplars (Hernandez et al., ICLR 2022), but exact: the
published code reads the level off a sketch. float16 values are compared as 16-bit integers, which
numpy selects and sorts several times as fast.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from nemesis.errors import InputError
from nemesis.stores import blocks

READ_BYTES = 2**25  # stored maps read at once
GROUP_BYTES = 2**28  # maps of units held at once
CACHE_BYTES = 2**20  # maps of units compared at once
MAGNITUDE = np.int16(0x7FFF)


@dataclass(frozen=True)
class Peaks:
    """Of U units: numbers `ids` (U, k) of the images that fire each most, highest first, the activations
    there (U, k) and the maps (U, k, h, w), and the `levels` (U,) of the masks."""

    ids: np.ndarray
    activations: np.ndarray
    levels: np.ndarray
    maps: np.ndarray


def find_peaks(values: np.ndarray, k: int, quantile: float, weights: np.ndarray | None = None) -> Peaks:
    """Peaks of the units whose maps on all N images are `values` (U, N, h, w), float16 or float32.

    weights: (N,) int, each image is counted so many times for the level, and once as an exemplar (a resampled probe).
    Raises InputError when there are fewer than k images.
    """
    step = max(1, CACHE_BYTES // max(1, values[:1].nbytes))
    return join_peaks([_find_peaks(values[a:b], k, quantile, weights) for a, b in blocks(len(values), step)], k)


def _find_peaks(values: np.ndarray, k: int, quantile: float, weights) -> Peaks:
    keys = sort_keys(values).reshape(*values.shape[:2], -1)  # (U, N, h * w)
    highest = keys.max(axis=2)  # (U, N)
    ids = top_images(highest, k, weights)
    activations = key_values(np.take_along_axis(highest, ids, axis=1))
    levels = find_levels(keys if weights is None else np.repeat(keys, weights, axis=1), quantile)
    maps = values[np.arange(len(values))[:, None], ids]  # (U, k, h, w)
    return Peaks(ids, activations, levels, maps)


def join_peaks(parts: Iterable[Peaks], k: int) -> Peaks:
    """The peaks of several groups of units as one."""
    parts = list(parts)
    if not parts:
        none = np.zeros((0, k), np.float32)
        return Peaks(none.astype(np.int64), none, none[:, 0], none[:, :, None, None])
    return Peaks(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def top_images(highest: np.ndarray, k: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Numbers (U, k) of the images with the largest `highest` (U, N), largest first, ties to the lower number.

    Images of weight 0 are not there. Raises InputError when fewer than k images are.
    """
    count = highest.shape[1]
    present = np.arange(count) if weights is None else np.flatnonzero(weights)
    if k > len(present):
        probe = f"the probe has {count}" if weights is None else f"a resampled probe of {count} has {len(present)}"
        raise InputError(f"milan.exemplars: {k} images a unit are wanted, but {probe}; lower it")
    keys = sort_keys(highest)[:, present]
    return present[np.argsort(-keys, axis=1, kind="stable")[:, :k]]


def find_levels(values: np.ndarray, quantile: float) -> np.ndarray:
    """The `quantile` of each unit's values (U, ...), float32 (U,): Hazen's rule (sample i, from 0, of n lies at
    (i + 0.5) / n, with straight lines in between), as the published code's sketch has it while it is exact."""
    keys = sort_keys(values).reshape(len(values), -1)
    last = keys.shape[1] - 1
    position = min(max(keys.shape[1] * quantile - 0.5, 0), last)
    low = math.floor(position)
    parted = np.partition(keys, low, axis=1)  # one rank: a second one costs ten times as much
    pair = parted[:, low], parted[:, min(low + 1, last) :].min(axis=1)
    below, above = (key_values(part).astype(np.float64) for part in pair)
    return (below + (above - below) * (position - low)).astype(np.float32)


def sort_keys(values: np.ndarray) -> np.ndarray:
    """Integers in the order of float16 `values`, both zeros alike; other types are their own keys."""
    if values.dtype != np.float16:
        return values
    bits = np.ascontiguousarray(values).view(np.int16)
    sign = bits >> 15  # 0 or -1
    return ((bits & MAGNITUDE) ^ sign) - sign


def key_values(keys: np.ndarray) -> np.ndarray:
    """The values float32 behind `sort_keys`."""
    if keys.dtype != np.int16:
        return keys.astype(np.float32)
    magnitude = np.abs(keys).view(np.float16).astype(np.float32)
    return np.where(keys < 0, -magnitude, magnitude)


def read_groups(maps, units: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (units, maps (U', N, h, w)) for groups of `units`, as many as fit GROUP_BYTES, at least one.

    `maps` is a map source: `units`, `count`, `block`, `unit_chunk`, `read(images, units)`.
    """
    sample = maps.read(slice(0, 1), slice(0, 1))  # (1, 1, h, w)
    for first, last in blocks(len(units), max(1, GROUP_BYTES // (maps.count * sample.nbytes))):
        yield units[first:last], _read_units(maps, units[first:last], sample)


def _read_units(maps, units: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Maps of some units by number on all images, (U', N, h, w); each chunk is read once."""
    if units[-1] - units[0] == len(units) - 1 and (np.diff(units) == 1).all():
        return maps.read(slice(0, maps.count), slice(int(units[0]), int(units[-1]) + 1))
    found = np.empty((len(units), maps.count, *sample.shape[2:]), sample.dtype)
    step = maps.unit_chunk
    span = maps.block * max(1, READ_BYTES // (step * maps.block * sample.nbytes))
    for chunk in np.unique(units // step):
        rows = np.flatnonzero(units // step == chunk)
        wanted = slice(int(chunk) * step, min((int(chunk) + 1) * step, maps.units))
        for start, stop in blocks(maps.count, span):
            part = maps.read(slice(start, stop), wanted)
            found[rows, start:stop] = part[units[rows] - wanted.start]
    return found
