"""Thresholds of many versions of a streamed probe at once: every map is made once and counted for all versions.

The tail of a streamed layer (see nemesis.dissection.tails) may be too large to gather; its counts are not. What
belongs to the tail is known exactly from the counts of the clean probe.
"""

import numpy as np

from nemesis.dissection.counts import BINS, ORDER, SIGN, Thresholds, ascending, thresholds_from_counts
from nemesis.dissection.stored import StreamedMaps
from nemesis.dissection.tails import TAIL, order_keys
from nemesis.stores import blocks, read


def count_versions(stores, weights: list[np.ndarray], quantile: float, rule: str) -> list[Thresholds]:
    """Thresholds of R versions of a float16 probe; one of its stores is streamed.

    `weights` are R times (N,): how often a version counts each image of the stores, numbered through.
    """
    streamed = next(store for store in stores if isinstance(store, StreamedMaps))
    cuts = _choose_cuts(read(streamed.counts), quantile)
    found = _find_thresholds(stores, weights, cuts, quantile, rule)
    if any(np.isnan(part.threshold).any() for part in found):  # lower than the tail reaches
        found = _find_thresholds(stores, weights, np.full(len(cuts), -1), quantile, rule)
    return found


def _find_thresholds(stores, weights, cuts: np.ndarray, quantile: float, rule: str) -> list[Thresholds]:
    """A threshold at or below a unit's cut is NaN."""
    counts = np.zeros((len(weights), len(cuts), BINS), np.int64)  # (R, U, 65536), by key
    times, first = np.stack(weights), 0
    for store in stores:
        _count_tail(counts, store, times[:, first : first + store.count], cuts)
        first += store.count
    values = int(np.prod(stores[0].shape[2:]))
    found = []
    for tail, total in zip(counts, times.sum(axis=1) * values, strict=True):
        tail[:, 0] += total - tail.sum(axis=1)  # the rest: the bin of a NaN
        patterns = np.empty_like(tail)
        patterns[:, ORDER] = tail
        found.append(thresholds_from_counts(patterns, np.float16, quantile, rule))
    return found


def _count_tail(counts: np.ndarray, store, weights: np.ndarray, cuts: np.ndarray):
    """Add the keys above each unit's cut (U,), each image so often as `weights` (R, P) say, to counts (R, U, 65536)."""
    for start, stop in blocks(store.count, store.block):
        times = weights[:, start:stop].astype(float)  # exact: all counts are far below 2^53
        if not times.any():
            continue
        for unit, maps in enumerate(store.read(slice(start, stop))):
            lowest = cuts[unit] + 1
            found, place = _find_from(maps, lowest)
            if not len(found):
                continue
            width = int(place.max()) + 1
            image = found // (maps.size // len(maps))
            seen = np.bincount(image * width + place, minlength=len(maps) * width).reshape(-1, width)  # (B, width)
            counts[:, unit, lowest : lowest + width] += (times @ seen).astype(np.int64)


def _find_from(maps: np.ndarray, lowest: int) -> tuple[np.ndarray, np.ndarray]:
    """Which values (M,) of flattened maps have a key from `lowest` on, and how far above it, int64 (M,)."""
    if lowest > SIGN:  # positive values: their bits are in order as they are, and those of negative ones are below
        keys, lowest = np.ascontiguousarray(maps).view(np.int16).ravel(), lowest - SIGN
    else:
        keys = order_keys(maps).ravel()
    found = np.flatnonzero(keys >= lowest)
    return found, keys[found].astype(np.int64) - lowest


def _choose_cuts(patterns: np.ndarray, quantile: float) -> np.ndarray:
    """Key above which at most TAIL * quantile of the counted values lie, (U,); -1 where that is all of them."""
    counts = ascending(patterns, True).cumsum(axis=1, dtype=np.int64)
    if TAIL * quantile >= 1:
        return np.full(len(counts), -1)
    # Bins are keys: both are in the order of the values.
    return (counts < (1 - TAIL * quantile) * counts[:, -1:]).sum(axis=1)
