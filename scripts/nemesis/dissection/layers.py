"""The artifacts of a layer's clean dissection, from store to CSV."""

import logging
from pathlib import Path

import pandas as pd

from nemesis.dissection.again import Recipe, counting_device, rerun_probe
from nemesis.dissection.dissect import Run, dissect_layer, save_tally
from nemesis.dissection.resample import resample_runs, tabulate_churn
from nemesis.dissection.stored import open_maps
from nemesis.files import sha256_json, write_csv


def write_dissection(
    maps_path,
    thresholds_path,
    probe,
    concepts,
    settings: dict,
    seed: int,
    outputs: dict,
    recipe: Recipe | None = None,
):
    """Write a layer's dissection.csv, tally.zarr and null_churn.csv; `recipe` runs the network of a streamed layer.

    Masks are counted where the maps are: on the processor, or on the device that makes a streamed layer's.
    `outputs` maps `dissection`, `tally` (the zarr.json inside the store) and `null_churn` to paths.
    """
    maps = open_maps(maps_path, rerun_probe(recipe, probe) if recipe else None)
    device = counting_device(maps, recipe)
    thresholds = pd.read_csv(thresholds_path)["threshold"].to_numpy()
    runs = [Run(maps, thresholds), *resample_runs(maps, probe.count, settings, seed)]
    (tally, iou, table), *replicates = dissect_layer(runs, probe, concepts, device, settings["iou"])
    churn = tabulate_churn([found for _, _, found in replicates], table)
    inputs = (Path(maps_path) / "zarr.json", thresholds_path)
    save_tally(outputs["tally"].parent, tally, iou, concepts, sha256_json(settings), inputs)
    write_csv(churn, outputs["null_churn"])
    write_csv(table, outputs["dissection"])
    labelled = int((table["iou"] >= settings["min_iou"]).sum())
    logging.info("%d of %d units have a label", labelled, len(table))
