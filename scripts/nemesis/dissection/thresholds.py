"""Activation thresholds of a whole layer, from counts of its values or from its maps.

A *map source* has `shape` (U, N, h, w), `dtype`, `units`, `count`, `block`, `unit_chunk`,
`read(images, units)` and `sources(weights)`; it is the clean store, whether stored or streamed, or
the clean store with some images replaced by their corrupted maps.
"""

import logging

import numpy as np
import pandas as pd

from nemesis.dissection.counted import count_versions
from nemesis.dissection.counts import Thresholds, compute_thresholds, thresholds_from_counts
from nemesis.dissection.stored import StreamedMaps, open_maps, weigh_stores
from nemesis.dissection.tails import collect_tail
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
