"""Activation thresholds of a whole layer, from its stored maps.

A *map source* has `units`, `count`, `block`, `unit_chunk` and `read(images, units)`; it is the
clean store, or the clean store with some images replaced by their corrupted maps.
"""

import logging

import numpy as np
import pandas as pd

from nemesis.dissection.counts import Thresholds, compute_thresholds
from nemesis.dissection.stored import open_maps
from nemesis.files import write_csv
from nemesis.stores import blocks


def write_thresholds(maps_path, csv_path, quantile: float, rule: str):
    """Write thresholds.csv: unit, threshold, n_values, exceeding_fraction, dead."""
    found = layer_thresholds(open_maps(maps_path), quantile, rule)
    table = pd.DataFrame(vars(found))
    table.insert(0, "unit", range(len(table)))
    logging.info("%d units, %d dead", len(table), table["dead"].sum())
    write_csv(table, csv_path)


def layer_thresholds(maps, quantile: float, rule: str, weights: np.ndarray | None = None) -> Thresholds:
    """Thresholds of every unit of a map source; one group of units is held at a time.

    `weights` (N,) counts each image so many times.
    """
    parts = []
    for first, last in blocks(maps.units, maps.unit_chunk):
        units = slice(first, last)
        dtype = maps.read(slice(0, 1), units).dtype
        chunks = lambda units=units: _chunks(maps, units, weights)  # noqa: E731
        parts.append(compute_thresholds(chunks, last - first, dtype, quantile, rule))
    return Thresholds(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _chunks(maps, units: slice, weights):
    for start, stop in blocks(maps.count, maps.block):
        part = maps.read(slice(start, stop), units)
        if weights is None:
            yield part, 1
            continue
        times = weights[start:stop]
        for weight in range(1, int(times.max(initial=0)) + 1):
            if (times == weight).any():
                yield part[:, times == weight], weight
