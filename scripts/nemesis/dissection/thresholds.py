"""Activation thresholds of a whole layer, from counts of its values or from its maps.

A *map source* has `shape` (U, N, h, w), `dtype`, `units`, `count`, `block`, `unit_chunk`,
`read(images, units)` and `sources(weights)`; it is the clean store, whether stored or streamed, or
the clean store with some images replaced by their corrupted maps.
"""

import logging

import numpy as np
import pandas as pd

from nemesis.dissection.counts import (
    BINS,
    ORDER,
    SIGN,
    Thresholds,
    ascending,
    compute_thresholds,
    thresholds_from_counts,
)
from nemesis.dissection.stored import StreamedMaps, open_maps, weigh_stores
from nemesis.dissection.tails import TAIL, collect_tail, order_keys
from nemesis.files import write_csv
from nemesis.stores import blocks, read

COUNTED_UNITS = 64  # units whose counts are in memory at once, at most 512 KiB each


def write_thresholds(store, layer: str, csv_path, quantile: float, rule: str):
    """Write a layer's thresholds.csv: unit, threshold, n_values, exceeding_fraction, dead."""
    table = pd.DataFrame(vars(layer_thresholds(open_maps(store, layer), quantile, rule)))
    table.insert(0, "unit", range(len(table)))
    logging.info("%d units, %d dead", len(table), table["dead"].sum())
    write_csv(table, csv_path)


def layer_thresholds(maps, quantile: float, rule: str) -> Thresholds:
    """Thresholds of every unit of a map source, a group of units at a time.

    They come from the counts that the source has (see StoredMaps), or else from all of its maps.
    """
    counts = getattr(maps, "counts", None)
    if counts is not None:
        groups = [slice(*group) for group in blocks(maps.units, COUNTED_UNITS)]
        return _join([thresholds_from_counts(read(counts, units), maps.dtype, quantile, rule) for units in groups])
    groups = [slice(*group) for group in blocks(maps.units, maps.unit_chunk)]
    return _join([_count_values(maps.sources(), units, quantile, rule) for units in groups])


def thresholds_of_runs(runs: list, quantile: float, rule: str) -> list[Thresholds]:
    """Thresholds of every unit in each of R runs, exactly; the stores behind them are read once for all.

    A run is (map source, weights): how often each image counts, (N,), or None.
    """
    if not runs:
        return []
    runs = [maps.sources(weights) for maps, weights in runs]
    weighed = weigh_stores(runs)
    stores = [store for store, _ in weighed]
    weights = list(np.concatenate([times for _, times in weighed], axis=1))  # images numbered through
    if any(isinstance(store, StreamedMaps) for store in stores):
        return count_versions(stores, weights, quantile, rule)
    found: list[list[Thresholds]] = [[] for _ in runs]
    for first, last in blocks(stores[0].units, stores[0].unit_chunk):
        tail = collect_tail(stores, slice(first, last), quantile)
        for parts, run, times in zip(found, runs, weights, strict=True):
            group, short = tail.find(times, quantile, rule)
            for unit in short:
                exact = _count_values(run, slice(first + unit, first + unit + 1), quantile, rule)
                for name, values in vars(group).items():
                    values[unit] = getattr(exact, name)[0]
            parts.append(group)
    return [_join(parts) for parts in found]


def _join(parts: list[Thresholds]) -> Thresholds:
    """Thresholds of groups of units, one group after another."""
    return Thresholds(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _count_values(run, units: slice, quantile: float, rule: str) -> Thresholds:
    """Thresholds of some units from counts of all their values."""
    first = run[0][0].read(slice(0, 1), units)
    return compute_thresholds(lambda: _chunks(run, units), len(first), first.dtype, quantile, rule)


def _chunks(run, units: slice):
    for store, weights in run:
        for start, stop in blocks(store.count, store.block):
            times = weights[start:stop]
            if not times.any():
                continue
            part = store.read(slice(start, stop), units)
            for weight in range(1, int(times.max()) + 1):
                if (times == weight).any():
                    yield part if (times == weight).all() else part[:, times == weight], weight


# The tail of a streamed layer (see nemesis.dissection.tails) may be too large to gather; its counts are not. What
# belongs to the tail is known exactly from the counts of the clean probe, and every map is made once for all versions.


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
