"""Thresholds of many versions of a probe at once, from the largest activations alone.

A bootstrap replicate counts some images twice and some not at all; noise puts other maps in the
place of some. The threshold of each version lies among the largest few per cent of the values, so
those are gathered once, with the image that each comes from, and every version weighs them anew.
Where a version has its threshold lower than what was gathered, `find` says so.
"""

from dataclasses import dataclass

import numpy as np

from nemesis.dissection.counts import Thresholds, thresholds_from_ranks
from nemesis.stores import blocks

TAIL = 4  # gathered, as a multiple of the share of values above a threshold
SAMPLE_BYTES = 2**26  # maps on which it is decided what to gather,
SAMPLE = 2**16  # and as many of a unit's values


@dataclass(frozen=True)
class Tail:
    """The largest values of U units over the images of several stores, in ascending order within a unit.

    place: (M,) unit << bits of a value | key, where keys are in the order of the values (`order_keys`), uint32 for
    float16 and uint64 for float32; image: int32 (M,); times: int32 (M,), how often the image has the value; dtype: of
    the values; size: values of a unit in an image. 12 bytes a value of float16: there are 130 million of them for two
    units of VGG16's conv1_2 on Broden.
    """

    place: np.ndarray
    image: np.ndarray
    times: np.ndarray
    units: int
    dtype: np.dtype
    size: int

    def find(self, weights: np.ndarray, quantile: float, rule: str) -> tuple[Thresholds, np.ndarray]:
        """Thresholds of the version that counts image i weights[i] times.

        Also the units (numbers in the tail) whose threshold may be lower than the tail reaches; theirs is void.
        """
        total = int(weights.sum()) * self.size
        before = np.concatenate([[0], np.cumsum(weights[self.image] * self.times)])  # (M + 1,)
        bits = 8 * self.dtype.itemsize
        edges = (np.arange(self.units, dtype=self.place.dtype) << bits).astype(self.place.dtype)
        ends = np.append(np.searchsorted(self.place, edges), len(self.place))  # (U + 1,)
        start, inside = before[ends[:-1]], np.diff(before[ends])  # (U,) each
        below = total - inside  # values of a unit that are not in the tail
        short = np.zeros(self.units, bool)

        def select(ranks):
            short[ranks < below] = True
            found = np.searchsorted(before, start + np.maximum(ranks - below, 0), side="right") - 1
            found = np.minimum(found, len(self.place) - 1)
            last = np.searchsorted(self.place, self.place[found], side="right")
            keys = self.place[found] & self.place.dtype.type((1 << bits) - 1)
            return restore_values(keys, self.dtype).astype(np.float64), below + before[last] - start

        found = thresholds_from_ranks(np.full(self.units, total), select, quantile, rule)
        return found, np.flatnonzero(short)


def collect_tail(stores, units: slice, quantile: float) -> Tail:
    """The largest TAIL * quantile of the values of some units, or so; each store is read once.

    Images are numbered through, store after store. What is large is decided on the first images.
    """
    parts, cuts, offset = [], None, 0
    for store in stores:
        held: list[np.ndarray] = []
        for start, stop in blocks(store.count, store.block):
            maps = store.read(slice(start, stop), units)
            held.append(order_keys(maps).reshape(*maps.shape[:2], -1))  # (U, B, h * w)
            if cuts is None and stop < store.count and sum(part.nbytes for part in held) < SAMPLE_BYTES:
                continue
            cuts = _choose_cuts(held, quantile) if cuts is None else cuts
            for keys in held:
                parts += _gather(keys, cuts, offset)
                offset += keys.shape[1]
            held = []
    place, image, times = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(place)
    return Tail(place[order], image[order], times[order], len(cuts), maps.dtype, int(np.prod(maps.shape[2:])))


def order_keys(maps: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of float16 or float32 values; -0 is +0."""
    unsigned = np.dtype(f"u{maps.dtype.itemsize}")
    bits = np.ascontiguousarray(maps).view(unsigned)
    sign = unsigned.type(1 << (8 * maps.dtype.itemsize - 1))
    keys = np.where(bits & sign, ~bits, bits | sign)
    keys[bits == sign] = sign
    return keys


def restore_values(keys: np.ndarray, dtype) -> np.ndarray:
    """The values behind keys."""
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    keys, sign = keys.astype(unsigned), unsigned.type(1 << (8 * unsigned.itemsize - 1))
    return np.where(keys & sign, keys ^ sign, ~keys).view(dtype)


def _choose_cuts(held: list[np.ndarray], quantile: float) -> np.ndarray:
    """Key from which on the values of each unit are gathered, (U,)."""
    sample = np.concatenate([keys.reshape(len(keys), -1) for keys in held], axis=1)
    sample = sample[:, :: -(-sample.shape[1] // SAMPLE)]
    rank = int(max(0.0, 1 - TAIL * quantile) * (sample.shape[1] - 1))
    return np.partition(sample, rank, axis=1)[:, rank].copy()


def _gather(keys: np.ndarray, cuts: np.ndarray, offset: int):
    """(place, image, times) of a block's values above each unit's cut, and of those at the cut, once an image."""
    count, size = keys.shape[1:]
    found = np.flatnonzero(keys > cuts[:, None, None])
    unit, image = found // (count * size), found // size % count
    yield _place(unit, keys.ravel()[found]), _short(image + offset), np.ones(len(found), np.int32)
    equal = (keys == cuts[:, None, None]).sum(axis=2)  # (U, B)
    unit, image = equal.nonzero()
    yield _place(unit, cuts[unit]), _short(image + offset), _short(equal[unit, image])


def _place(unit: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """unit << bits of a key | key, in an integer of twice as many bits."""
    wide = np.dtype(f"u{2 * keys.dtype.itemsize}")
    return unit.astype(wide) << wide.type(8 * keys.dtype.itemsize) | keys.astype(wide)


def _short(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int32)
