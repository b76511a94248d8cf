"""The clean dissection of a layer, with its null churn: how often does a label change when nothing was corrupted?

The clean probe is resampled with replacement (a bootstrap over images), thresholds and labels are found anew, and the
share of replicates in which a unit's label differs is its churn.
"""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from nemesis.devices import PROCESSOR
from nemesis.dissection.dissect import Concepts, Run, dissect_layer, save_tally
from nemesis.dissection.draws import resample_weights
from nemesis.dissection.stored import MapSource
from nemesis.dissection.tally import Tally
from nemesis.dissection.thresholds import thresholds_of_runs
from nemesis.files import sha256_json, write_csv
from nemesis.probes.probe import Probe


@dataclass(frozen=True)
class Dissection:
    """A layer on the clean probe: counts, IoU of every unit and concept (U, C), the label table, the null churn.

    A row of `table` is a unit, one of `churn` a (replicate, unit); see tabulate_labels and tabulate_churn.
    """

    tally: Tally
    iou: np.ndarray
    table: pd.DataFrame
    churn: pd.DataFrame


def dissect_clean(
    maps: MapSource,
    thresholds: np.ndarray,
    probe: Probe,
    concepts: Concepts,
    settings: dict,
    device: torch.device = PROCESSOR,
) -> Dissection:
    """Dissect a layer above the thresholds (U,) of its units, and again on resampled images.

    `settings` has what the config's `dissection` has (quantile, threshold, iou, min_iou, null_replicates), and `seed`.
    Masks are counted on `device`, best where the maps are: on the processor, or where a streamed layer's network runs.
    """
    runs = [Run(maps, thresholds), *resample_runs(maps, probe.count, settings, settings["seed"])]
    (tally, iou, table), *replicates = dissect_layer(runs, probe, concepts, device, settings["iou"])
    labelled = int((table["iou"] >= settings["min_iou"]).sum())
    logging.info("%d of %d units have a label", labelled, len(table))
    return Dissection(tally, iou, table, tabulate_churn([found for _, _, found in replicates], table))


def write_dissection(found: Dissection, concepts: Concepts, outputs: dict, settings: dict, inputs=()):
    """Write a layer's dissection.csv, tally.zarr and null_churn.csv.

    `outputs` maps `dissection`, `tally` (a folder) and `null_churn` to paths; `settings` and the files `inputs` are
    recorded in the tally.
    """
    save_tally(outputs["tally"], found.tally, found.iou, concepts, sha256_json(settings), inputs)
    write_csv(found.churn, outputs["null_churn"])
    write_csv(found.table, outputs["dissection"])


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
