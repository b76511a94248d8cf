"""Which units of a layer are described."""

import zlib

import numpy as np
import pandas as pd

from nemesis.errors import InputError

STREAM = 0x6D696C61


def choose_units(setting, thresholds: pd.DataFrame, seed: int, layer: str) -> np.ndarray:
    """Unit numbers, ascending: `all` that ever fire, so many of these drawn with the seed, or a list.

    `thresholds` is the layer's thresholds.csv (unit, dead). Fewer units than asked for are all taken.
    Raises InputError when a listed unit does not exist or is dead, and when every unit is dead.
    """
    alive = thresholds.loc[~thresholds["dead"].astype(bool), "unit"].to_numpy()
    if isinstance(setting, list):
        for unit in setting:
            if unit not in thresholds["unit"].to_numpy():
                raise InputError(f"milan.units: layer {layer} has no unit {unit}; it has 0 to {len(thresholds) - 1}")
            if unit not in alive:
                raise InputError(f"milan.units: layer {layer}, unit {unit} is dead (never above its threshold)")
        return np.sort(np.array(setting))
    if not len(alive):
        raise InputError(f"milan: every unit of layer {layer} is dead; leave the layer out of milan.layers")
    if setting == "all":
        return alive
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM, zlib.crc32(layer.encode())]))
    return np.sort(rng.permutation(alive)[:setting])
