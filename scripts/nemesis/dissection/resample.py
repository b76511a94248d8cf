"""Null churn: how often does a label change when nothing was corrupted?

The clean probe is resampled with replacement (a bootstrap over images), thresholds and labels
are found anew, and the share of replicates in which a unit's label differs is its churn.
"""

import numpy as np
import pandas as pd

from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.thresholds import layer_thresholds

STREAM = 0x6E756C6C  # separates this use of the seed from the others


def resample_weights(count: int, replicate: int, seed: int) -> np.ndarray:
    """How often each of `count` images is drawn in a bootstrap replicate, int64 (count,)."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM, replicate]))
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.int64)


def null_churn(maps, clean: pd.DataFrame, probe, concepts, device, settings: dict, seed: int) -> pd.DataFrame:
    """One row a (replicate, unit): the label on the resampled clean probe, and whether it changed.

    `clean` is the layer's dissection table; `settings` the config's `dissection` section.
    """
    runs = []
    for replicate in range(settings["null_replicates"]):
        weights = resample_weights(probe.count, replicate, seed)
        thresholds = layer_thresholds(maps, settings["quantile"], settings["threshold"], weights)
        runs.append(Run(maps, thresholds.threshold, weights))
    tables = []
    results = dissect_layer(runs, probe, concepts, device, settings["iou"]) if runs else []
    for replicate, (_, _, found) in enumerate(results):
        table = found[["unit", "label", "category", "iou", "number"]].copy()
        table.insert(0, "replicate", replicate)
        table["changed"] = table.pop("number").to_numpy() != clean["number"].to_numpy()
        tables.append(table)
    columns = ["replicate", "unit", "label", "category", "iou", "changed"]
    return pd.concat(tables) if tables else pd.DataFrame(columns=columns)
