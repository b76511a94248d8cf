"""What is drawn with the seed: the units that an experiment is about, and resampled probes. Needs no torch."""

import numpy as np
import pandas as pd

from nemesis.errors import InputError

UNIT_STREAM, PROBE_STREAM = 0x756E6974, 0x6E756C6C  # separate the uses of the seed


def select_units(setting, clean: pd.DataFrame, min_iou: float, seed: int, layer: str) -> np.ndarray:
    """Unit numbers, ascending: `all`, so many drawn among units with a label, or a list.

    `clean` is the layer's clean dissection table. Fewer units than asked for are all taken.
    Raises InputError when a listed unit does not exist.
    """
    units = clean["unit"].to_numpy()
    if setting == "all":
        return units
    if isinstance(setting, list):
        for unit in setting:
            if unit not in units:
                raise InputError(f"experiments: layer {layer} has no unit {unit}; it has units 0 to {units[-1]}")
        return np.sort(np.array(setting))
    labelled = units[clean["iou"].to_numpy() >= min_iou]
    rng = np.random.default_rng(np.random.SeedSequence([seed, UNIT_STREAM]))
    return np.sort(rng.permutation(labelled)[:setting])


def resample_weights(count: int, replicate: int, seed: int) -> np.ndarray:
    """How often each of `count` images is drawn in a bootstrap replicate, int64 (count,)."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, PROBE_STREAM, replicate]))
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.int64)
