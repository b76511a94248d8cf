"""A probe under noise: its images as the network sees them, and the labels of units on it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nemesis.corruption.mixed import MixedMaps, NoisyMaps
from nemesis.dissection.dissect import Concepts, Run, dissect_layer
from nemesis.dissection.extract import ImageSource
from nemesis.dissection.thresholds import thresholds_of_runs
from nemesis.dissection.tops import Tops, find_mixed_tops
from nemesis.errors import InputError
from nemesis.perturb.noise import StoredNoise, choose_images, draw_seed
from nemesis.perturb.storage import stored_difference
from nemesis.probes.probe import Probe
from nemesis.threads import on_all_cores


def draw_noisy(probe: Probe, kind: str, std: float, noise: Mapping, draw: int) -> ImageSource:
    """The images that one draw of noise corrupts; `noise` has the config's `seed`, largest `fraction` and `storage`."""
    stored = StoredNoise(kind, std, noise["storage"])
    return noisy_images(probe, stored, noise["fraction"], draw_seed(noise["seed"], draw))


def noisy_images(probe: Probe, noise: StoredNoise, fraction: float, seed: int) -> ImageSource:
    """The images that noise corrupts, corrupted and stored.

    `seed` is the draw's own seed. The source records what was stored: `linf` and `mse` (P,),
    largest absolute and mean squared difference to the clean image, in 1/255. Raises InputError
    when the fraction is less than half an image.
    """
    chosen = choose_images(probe.count, fraction, seed)
    if not len(chosen):
        raise InputError(f"noise.fractions: {fraction:g} of {probe.count} images is none; raise it")
    record = {"linf": np.zeros(len(chosen)), "mse": np.zeros(len(chosen))}

    def corrupt(position: int, clean: np.ndarray) -> np.ndarray:
        stored = noise.corrupt(clean, seed, int(chosen[position]))
        record["linf"][position], record["mse"][position] = stored_difference(clean, stored)
        return stored

    corrupt_all = on_all_cores(corrupt)

    def load(start: int, stop: int) -> np.ndarray:
        clean = probe.take_images(chosen[start:stop])
        return np.stack(corrupt_all(range(start, stop), clean))

    return ImageSource(chosen, [probe.names[number] for number in chosen], load, record)


@dataclass(frozen=True)
class NoisyRun:
    """A layer dissected when one draw (by its name) corrupts a fraction of the images: its maps, limits and table."""

    fraction: float
    draw: int
    maps: MixedMaps
    thresholds: np.ndarray
    table: pd.DataFrame


def dissect_noisy(noisy: NoisyMaps, probe: Probe, concepts: Concepts, device, settings: Mapping) -> list[NoisyRun]:
    """Dissect a layer again for every draw and fraction; thresholds are found anew each time."""
    keys = [(fraction, draw) for draw in noisy.draws for fraction in noisy.fractions]
    mixed = [noisy.mix(*key) for key in keys]
    limits = thresholds_of_runs([(maps, None) for maps in mixed], settings["quantile"], settings["threshold"])
    runs = [Run(maps, part.threshold) for maps, part in zip(mixed, limits, strict=True)]
    found = dissect_layer(runs, probe, concepts, device, settings["iou"])
    return [
        NoisyRun(fraction, name, run.maps, run.thresholds, table)
        for (fraction, (name, _)), run, (_, _, table) in zip(keys, runs, found, strict=True)
    ]


def compare_noisy(runs: list[NoisyRun], clean: pd.DataFrame, units) -> pd.DataFrame:
    """The rows of noise/.../dissection.csv, one a (fraction, seed, unit) of `units`; `clean` is the layer's table."""
    table = pd.concat([_compare(run, clean) for run in runs]).sort_values(["fraction", "seed", "unit"], kind="stable")
    return table[table["unit"].isin(units)]


def find_noisy_tops(runs: list[NoisyRun], units) -> Tops:
    """The strongest images of `units` in every run, which share their clean maps."""
    columns = {"fraction": np.array([run.fraction for run in runs]), "seed": np.array([run.draw for run in runs])}
    thresholds = np.stack([run.thresholds for run in runs])
    return find_mixed_tops([run.maps for run in runs], units, thresholds, columns)


def _compare(run: NoisyRun, clean: pd.DataFrame) -> pd.DataFrame:
    rows, record, table = run.maps.rows, run.maps.corrupted.record, run.table
    compared = pd.DataFrame({"fraction": run.fraction, "seed": run.draw, "unit": table["unit"]})
    compared["clean_label"], compared["clean_iou"] = clean["label"], clean["iou"]
    compared[["label", "category", "iou"]] = table[["label", "category", "iou"]]
    compared["manipulated"] = table["number"].to_numpy() != clean["number"].to_numpy()
    compared["linf"] = record["linf"][rows].max(initial=0)
    compared["rms"] = np.sqrt(record["mse"][rows].mean()) if len(rows) else 0.0
    return compared
