"""Null churn: how often does a label change when nothing was corrupted?

The clean probe is resampled with replacement (a bootstrap over images), thresholds and labels
are found anew, and the share of replicates in which a unit's label differs is its churn.
"""

import pandas as pd

from nemesis.dissection.bootstrap import resample_weights
from nemesis.dissection.dissect import Run
from nemesis.dissection.thresholds import thresholds_of_runs


def resample_runs(maps, count: int, settings: dict, seed: int) -> list[Run]:
    """The replicates of a layer on `count` images; `settings` is the config's `dissection` section."""
    weights = [resample_weights(count, number, seed) for number in range(settings["null_replicates"])]
    found = thresholds_of_runs([(maps, times) for times in weights], settings["quantile"], settings["threshold"])
    return [Run(maps, part.threshold, times) for part, times in zip(found, weights, strict=True)]


def tabulate_churn(tables: list[pd.DataFrame], clean: pd.DataFrame) -> pd.DataFrame:
    """One row a (replicate, unit): the label on the resampled clean probe, and whether it changed.

    `tables` are the replicates' dissection tables, `clean` is that of the clean probe.
    """
    rows = []
    for replicate, found in enumerate(tables):
        table = found[["unit", "label", "category", "iou", "number"]].copy()
        table.insert(0, "replicate", replicate)
        table["changed"] = table.pop("number").to_numpy() != clean["number"].to_numpy()
        rows.append(table)
    columns = ["replicate", "unit", "label", "category", "iou", "changed"]
    return pd.concat(rows) if rows else pd.DataFrame(columns=columns)
