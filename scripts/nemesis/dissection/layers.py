"""The artifacts of a layer's clean dissection, from store to CSV."""

import logging
from pathlib import Path

import pandas as pd

from nemesis.dissection.dissect import Run, dissect_layer, layer_thresholds, save_tally
from nemesis.dissection.maps import open_maps
from nemesis.dissection.resample import null_churn
from nemesis.files import sha256_json, write_csv


def write_thresholds(maps_path, csv_path, quantile: float, rule: str):
    """Write thresholds.csv: unit, threshold, n_values, exceeding_fraction, dead."""
    found = layer_thresholds(open_maps(maps_path), quantile, rule)
    table = pd.DataFrame(vars(found))
    table.insert(0, "unit", range(len(table)))
    logging.info("%d units, %d dead", len(table), table["dead"].sum())
    write_csv(table, csv_path)


def write_dissection(maps_path, thresholds_path, probe, concepts, device, settings: dict, seed: int, outputs: dict):
    """Write a layer's dissection.csv, tally.zarr and null_churn.csv.

    `outputs` maps `dissection`, `tally` (the zarr.json inside the store) and `null_churn` to paths.
    """
    maps = open_maps(maps_path)
    thresholds = pd.read_csv(thresholds_path)["threshold"].to_numpy()
    ((tally, iou, table),) = dissect_layer([Run(maps, thresholds)], probe, concepts, device, settings["iou"])
    churn = null_churn(maps, table, probe, concepts, device, settings, seed)
    inputs = (Path(maps_path) / "zarr.json", thresholds_path)
    save_tally(outputs["tally"].parent, tally, iou, concepts, sha256_json(settings), inputs)
    write_csv(churn, outputs["null_churn"])
    write_csv(table, outputs["dissection"])
    labelled = int((table["iou"] >= settings["min_iou"]).sum())
    logging.info("%d of %d units have a label", labelled, len(table))
