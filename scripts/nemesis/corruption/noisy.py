"""A probe under noise: its images as the network sees them, and its labels beside the clean ones."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from nemesis.corruption.mixed import mix_maps
from nemesis.corruption.noise import add_noise, choose_images
from nemesis.corruption.storage import store_image, stored_difference
from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.extract import ImageSource
from nemesis.dissection.stored import StoredMaps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.errors import InputError
from nemesis.probes.probe import Probe


def noisy_images(probe: Probe, kind: str, std: float, fraction: float, seed: int, storage: str) -> ImageSource:
    """The images that noise corrupts, corrupted and stored.

    `seed` is the draw's own seed. The source records what was stored: `linf` and `mse` (P,),
    largest absolute and mean squared difference to the clean image, in 1/255. Raises InputError
    when the fraction is less than half an image.
    """
    chosen = choose_images(probe.count, fraction, seed)
    if not len(chosen):
        raise InputError(f"noise.fractions: {fraction:g} of {probe.count} images is none; raise it")
    record = {"linf": np.zeros(len(chosen)), "mse": np.zeros(len(chosen))}
    pool = ThreadPoolExecutor(os.cpu_count())

    def corrupt(position: int, clean: np.ndarray) -> np.ndarray:
        stored = store_image(add_noise(clean, kind, std, seed, int(chosen[position])), storage)
        record["linf"][position], record["mse"][position] = stored_difference(clean, stored)
        return stored

    def load(start: int, stop: int) -> np.ndarray:
        clean = _read_numbers(probe, chosen[start:stop])
        return np.stack(list(pool.map(corrupt, range(start, stop), clean)))

    return ImageSource(chosen, [probe.names[number] for number in chosen], load, record)


def _read_numbers(probe: Probe, numbers: np.ndarray) -> np.ndarray:
    """Images by ascending numbers, uint8 (B, 3, H, W)."""
    span = probe.images(int(numbers[0]), int(numbers[-1]) + 1)
    return span[numbers - numbers[0]]


def dissect_noisy(
    clean: StoredMaps,
    noisy: dict[int, StoredMaps],
    labels: pd.DataFrame,
    probe: Probe,
    concepts,
    device,
    settings: dict,
    fractions: Iterable[float],
) -> pd.DataFrame:
    """Dissect a layer again for every (fraction, seed); thresholds are found anew each time.

    `noisy` maps a draw's (name, seed) to its stored maps; `labels` is the layer's clean table.
    Returns the rows of noise/.../dissection.csv, one a (fraction, seed, unit).
    """
    keys, runs = [], []
    for (name, seed), maps in noisy.items():
        for fraction in fractions:
            mixed = mix_maps(clean, maps, choose_images(probe.count, fraction, seed))
            found = layer_thresholds(mixed, settings["quantile"], settings["threshold"])
            keys.append((fraction, name, mixed.rows, maps.record))
            runs.append(Run(mixed, found.threshold))
    tables = []
    results = dissect_layer(runs, probe, concepts, device, settings["iou"])
    for (fraction, name, rows, record), (_, _, table) in zip(keys, results, strict=True):
        tables.append(_compare(table, labels, fraction, name, rows, record))
    return pd.concat(tables).sort_values(["fraction", "seed", "unit"], kind="stable")


def _compare(table, labels, fraction, seed, rows, record) -> pd.DataFrame:
    compared = pd.DataFrame({"fraction": fraction, "seed": seed, "unit": table["unit"]})
    compared["clean_label"], compared["clean_iou"] = labels["label"], labels["iou"]
    compared[["label", "category", "iou"]] = table[["label", "category", "iou"]]
    compared["manipulated"] = table["number"].to_numpy() != labels["number"].to_numpy()
    compared["linf"] = record["linf"][rows].max(initial=0)
    compared["rms"] = np.sqrt(record["mse"][rows].mean()) if len(rows) else 0.0
    return compared
