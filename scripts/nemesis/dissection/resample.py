"""Null churn: how often does a label change when nothing was corrupted?

The clean probe is resampled with replacement (a bootstrap over images), thresholds and labels
are found anew, and the share of replicates in which a unit's label differs is its churn.
"""

import pandas as pd

from nemesis.dissection.bootstrap import resample_weights
from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.thresholds import thresholds_of_runs


def null_churn(maps, clean: pd.DataFrame, probe, concepts, device, settings: dict, seed: int) -> pd.DataFrame:
    """One row a (replicate, unit): the label on the resampled clean probe, and whether it changed.

    `clean` is the layer's dissection table; `settings` the config's `dissection` section.
    """
    tables = []
    weights = [resample_weights(probe.count, number, seed) for number in range(settings["null_replicates"])]
    found = thresholds_of_runs([(maps, times) for times in weights], settings["quantile"], settings["threshold"])
    runs = [Run(maps, part.threshold, times) for part, times in zip(found, weights, strict=True)]
    results = dissect_layer(runs, probe, concepts, device, settings["iou"]) if runs else []
    for replicate, (_, _, found) in enumerate(results):
        table = found[["unit", "label", "category", "iou", "number"]].copy()
        table.insert(0, "replicate", replicate)
        table["changed"] = table.pop("number").to_numpy() != clean["number"].to_numpy()
        tables.append(table)
    columns = ["replicate", "unit", "label", "category", "iou", "changed"]
    return pd.concat(tables) if tables else pd.DataFrame(columns=columns)
