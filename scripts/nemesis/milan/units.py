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
    if not len(alive):
        raise InputError(f"milan: every unit of layer {layer} is dead; leave the layer out of milan.layers")
    return draw_units(setting, alive, "milan.units", seed, layer)


def draw_units(setting, known: np.ndarray, key: str, seed: int, layer: str) -> np.ndarray:
    """Of the units `known` (ascending): `all`, so many drawn with the seed, or a list; `key` is the config's."""
    if isinstance(setting, list):
        for unit in setting:
            if unit not in known:
                raise InputError(
                    f"{key}: layer {layer}, unit {unit} does not exist, is dead or is not described;"
                    f" there are {len(known)} to choose from: {_shorten(known)}"
                )
        return np.sort(np.array(setting))
    if setting == "all":
        return known
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM, zlib.crc32(layer.encode())]))
    return np.sort(rng.permutation(known)[:setting])


def _shorten(numbers: np.ndarray, most: int = 20) -> str:
    return ", ".join(map(str, numbers[:most])) + (" ..." if len(numbers) > most else "")
