"""The labels of a probe under noise, beside the clean ones."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nemesis.corruption.mixed import mix_maps
from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.stored import StoredMaps
from nemesis.dissection.thresholds import thresholds_of_runs
from nemesis.dissection.tops import Tops, find_mixed_tops
from nemesis.perturb.noise import choose_images
from nemesis.probes.probe import Probe


def dissect_noisy(
    clean: StoredMaps,
    noisy: dict[int, StoredMaps],
    labels: pd.DataFrame,
    probe: Probe,
    concepts,
    device,
    settings: dict,
    fractions: Iterable[float],
    units,
) -> tuple[pd.DataFrame, Tops]:
    """Dissect a layer again for every (fraction, seed); thresholds are found anew each time.

    `noisy` maps a draw's (name, seed) to its stored maps; `labels` is the layer's clean table.
    Returns the rows of noise/.../dissection.csv, one a (fraction, seed, unit) of `units`, and these
    units' strongest images.
    """
    keys, mixed = [], []
    for (name, seed), maps in noisy.items():
        for fraction in fractions:
            mixed.append(mix_maps(clean, maps, choose_images(probe.count, fraction, seed)))
            keys.append((fraction, name, mixed[-1].rows, maps.record))
    found = thresholds_of_runs([(maps, None) for maps in mixed], settings["quantile"], settings["threshold"])
    runs = [Run(maps, part.threshold) for maps, part in zip(mixed, found, strict=True)]
    tables = []
    results = dissect_layer(runs, probe, concepts, device, settings["iou"])
    for (fraction, name, rows, record), (_, _, table) in zip(keys, results, strict=True):
        tables.append(_compare(table, labels, fraction, name, rows, record))
    table = pd.concat(tables).sort_values(["fraction", "seed", "unit"], kind="stable")
    columns = {"fraction": np.array([key[0] for key in keys]), "seed": np.array([key[1] for key in keys])}
    thresholds = np.stack([run.thresholds for run in runs])
    tops = find_mixed_tops([run.maps for run in runs], units, thresholds, columns)
    return table[table["unit"].isin(units)], tops


def _compare(table, labels, fraction, seed, rows, record) -> pd.DataFrame:
    compared = pd.DataFrame({"fraction": fraction, "seed": seed, "unit": table["unit"]})
    compared["clean_label"], compared["clean_iou"] = labels["label"], labels["iou"]
    compared[["label", "category", "iou"]] = table[["label", "category", "iou"]]
    compared["manipulated"] = table["number"].to_numpy() != labels["number"].to_numpy()
    compared["linf"] = record["linf"][rows].max(initial=0)
    compared["rms"] = np.sqrt(record["mse"][rows].mean()) if len(rows) else 0.0
    return compared
