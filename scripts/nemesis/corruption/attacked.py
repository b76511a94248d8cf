"""A layer whose units are attacked: its clean dissection, and what it takes to repeat a part of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nemesis.devices import choose_device
from nemesis.dissection.dissect import Concepts, load_concepts
from nemesis.dissection.stored import StoredMaps, open_maps
from nemesis.dissection.tables import read_table
from nemesis.probes.probe import Probe, open_probe
from nemesis.stores import open_store, read


@dataclass(frozen=True)
class AttackedLayer:
    """A layer's clean dissection and what it takes to repeat it.

    `table` is the clean dissection.csv with `dead` beside it, `thresholds` (U,) and `areas` (L,) are those of the clean
    run, `settings` the config's section `dissection`. `device`: where the network runs.
    """

    name: str
    maps: StoredMaps
    table: pd.DataFrame
    thresholds: np.ndarray
    areas: np.ndarray
    probe: Probe
    concepts: Concepts
    device: torch.device
    settings: Mapping


@dataclass(frozen=True)
class CleanFiles:
    """Where a clean dissection lies; a store is named by its folder or the zarr.json in it.

    probe: a probe.zarr. concepts: its concepts.csv. maps: the activations.zarr of all layers. dissection, thresholds:
    the layer's tables. tally: its tally.zarr.
    """

    probe: Path
    concepts: Path
    maps: Path
    dissection: Path
    thresholds: Path
    tally: Path


def open_attacked_layer(name: str, files: CleanFiles, settings: Mapping, device: str) -> AttackedLayer:
    """Open the clean dissection of a layer; `device` is the config's. InputError when a store is missing or damaged."""
    probe = open_probe(files.probe)
    table, thresholds = read_table(files.dissection), pd.read_csv(files.thresholds)
    table["dead"] = thresholds["dead"].to_numpy()
    return AttackedLayer(
        name,
        open_maps(files.maps, name),
        table,
        thresholds["threshold"].to_numpy(),
        read(open_store(files.tally)["concept_area"]),
        probe,
        load_concepts(files.concepts, probe),
        choose_device(device),
        settings,
    )
