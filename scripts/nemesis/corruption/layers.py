"""Designed corruption of one layer, from artifacts to artifacts."""

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from nemesis.corruption.layer import Layer
from nemesis.corruption.plan import EMPTY, Plan, plan_rows, survey_probe, take_tasks
from nemesis.corruption.poison import Subject, attack_rows
from nemesis.corruption.poisoned import NEEDS_RESIDUE, write_poison
from nemesis.corruption.targets import choose_tasks
from nemesis.devices import choose_batch, choose_device
from nemesis.dissection.dissect import load_concepts
from nemesis.dissection.select import select_units
from nemesis.dissection.stored import open_maps
from nemesis.dissection.tables import read_table
from nemesis.files import sha256_json
from nemesis.models.network import LayerReader
from nemesis.models.registry import build_network
from nemesis.probes.probe import open_probe, read_concepts
from nemesis.stores import open_store, read

CHUNK_BYTES = 2**22  # of stored differences


def open_layer(files, params, name: str) -> Layer:
    """The clean dissection of a layer. `files` has probe, concepts, maps, clean, thresholds and tally."""
    probe = open_probe(Path(files.probe).parent)
    table = read_table(files.clean)
    thresholds = pd.read_csv(files.thresholds)
    table["dead"] = thresholds["dead"].to_numpy()
    areas = read(open_store(Path(files.tally).parent)["concept_area"])
    return Layer(
        name,
        open_maps(Path(files.maps).parent, name),
        table,
        thresholds["threshold"].to_numpy(),
        areas,
        probe,
        load_concepts(files.concepts, probe),
        choose_device(params.device),
        params.settings,
    )


def prepare_reader(layer, files, params, pad: bool) -> tuple[LayerReader, int]:
    """The network up to a layer (with `name`, `probe` and `device`), and its batch size.

    `pad` fills the last batch, so that its size is the same.
    """
    batch = choose_batch(params.batch, layer.probe.size, layer.device)
    network = build_network(params.model, params.spec, Path(files.weights))
    return LayerReader(network, [layer.name], layer.device, pad_to=batch if pad else 0), batch


@contextlib.contextmanager
def open_reader(layer, files, params, pad: bool):
    """The same reader, inside its `with` block."""
    reader, batch = prepare_reader(layer, files, params, pad)
    with reader:
        yield reader, batch


def plan_attack(
    layer: Layer, concepts_path, params, mode: str, masks: str, shard: int = 0, shards: int = 1
) -> tuple[Subject, Plan]:
    """Units, targets and images of a shard of an attack; `params.designed` is the config's section."""
    designed, seed = params.designed, params.seed
    experiment = select_units(params.units, layer.table, layer.settings["min_iou"], seed, layer.name)
    known = layer.table[layer.table["unit"].isin(experiment)]
    units = select_units(designed["units"], known, layer.settings["min_iou"], seed, layer.name)
    if designed["units"] == "all":
        units = known.loc[known["iou"] >= layer.settings["min_iou"], "unit"]
    tasks = choose_tasks(
        units,
        layer.table,
        read_concepts(concepts_path),
        mode,
        masks,
        designed["targets"],
        seed,
        layer.name,
        layer.settings["min_iou"],
    )
    subject = Subject(layer.probe, layer.maps, layer.thresholds, masks, designed["objective"])
    if not tasks:
        logging.info("layer %s: no unit has a label; nothing to attack", layer.name)
    tasks = take_tasks(tasks, shard, shards, mode == "shared")
    if not tasks:
        return subject, EMPTY
    shared = mode == "shared"
    survey = survey_probe(tasks, layer.maps, layer.thresholds, layer.probe, layer.device, masks, shared)
    return subject, plan_rows(tasks, survey, designed["max_fraction"], shared, layer.name)


def poison_layer(name: str, subject: Subject, plan: Plan, attack, batch: int, stores: dict, params, inputs):
    """Write a poison.zarr of the layer `name` for every eps of `stores` {eps: path}."""
    designed = params.designed
    residue = bool(set(NEEDS_RESIDUE) & storages_of(designed))
    chunk = max(1, CHUNK_BYTES // (3 * int(np.prod(subject.probe.size))))
    attrs = {"method": type(attack).__name__, "masks": subject.masks}
    attrs |= {"objective": subject.objective, "steps": attack.steps, "seed": params.seed, "layer": name}
    for eps, path in stores.items():
        attacked = attack_rows(attack, plan, subject, np.full(len(plan), eps), batch)
        more = attrs | {"alpha": eps * attack.step_size}
        write_poison(
            path, plan, subject.probe.size, eps, attacked, residue, chunk, sha256_json(designed), inputs, **more
        )
        logging.info("eps %g: %d images of %d units", eps, len(plan), len(plan.tasks))


def storages_of(designed: dict) -> set[str]:
    """Every storage that a config's designed section asks for."""
    compared: Iterable[str] = designed.get("compare_storage", {}).get("kinds", ())
    return {designed["storage"], *compared}
