"""Designed corruption of the images from which a unit is described (Eq. 8 and 9 of Srivastava et al., ICCV 2023).

The source is the unit's own clean mask, the target's that of another unit. A describer looks at the
images with the highest activations alone, so these are poisoned first.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from nemesis.corruption.plan import EMPTY, Plan, Subject
from nemesis.corruption.shown import ForwardPass, StoredAttack, show_rows
from nemesis.corruption.targets import NO_UNIT, Task
from nemesis.devices import choose_device
from nemesis.dissection.stored import StoredMaps, open_maps
from nemesis.errors import InputError
from nemesis.milan.exemplar_store import open_exemplars
from nemesis.milan.exemplars import draw_units
from nemesis.probes.probe import Probe, open_probe
from nemesis.progress import Progress
from nemesis.stores import Layout, add_array, blocks, read, save_array, write_store

STREAM = 0x70616972
DESIGNED, RANDOM = 0, 1  # the column `control`


@dataclass(frozen=True)
class DescribedLayer:
    """A layer some of whose units (D,) are described: `levels` (U,) are those of their masks, inf for other units."""

    name: str
    probe: Probe
    maps: StoredMaps
    device: torch.device
    units: np.ndarray
    levels: np.ndarray


def open_described(name: str, probe, maps, exemplars, device: str) -> DescribedLayer:
    """A layer and its clean exemplars: paths of a probe.zarr, of the activations.zarr of all layers and of its own
    exemplars.zarr; `device` is the config's."""
    stored, clean = open_maps(maps, name), open_exemplars(exemplars)
    levels = np.full(stored.units, np.inf)
    levels[clean.unit] = clean.levels
    return DescribedLayer(name, open_probe(probe), stored, choose_device(device), clean.unit, levels)


def plan_exemplar_attack(layer: DescribedLayer, setting, images: int, mode: str, seed: int) -> tuple[Subject, Plan]:
    """Units, targets and images of an attack; `setting`: all, so many or which of the described units.

    `images`: the most that a unit gets.
    """
    units = draw_units(setting, layer.units, "milan.designed.units", seed, layer.name)
    tasks = pair_units(units, mode, layer.units, seed, layer.name)
    highest = lambda unit: read(layer.maps.max, int(unit))  # noqa: E731
    plan = plan_exemplars(tasks, highest, layer.levels, images, layer.name)
    return Subject(layer.probe, layer.maps, layer.levels, "baseline", "equation7"), plan


def pair_units(units, mode: str, alive: np.ndarray, seed: int, layer: str) -> list[Task]:
    """A task a unit; a targeted one gets another unit of `alive` (numbers), drawn with the seed.

    Concept numbers are 0: nothing here needs concept masks. Raises InputError when there is no other unit.
    """
    if mode == "untargeted":
        return [Task(int(unit), 0) for unit in units]
    tasks = []
    for unit in units:
        others = alive[alive != unit]
        if not len(others):
            raise InputError(f"milan.designed: layer {layer} has no other unit to turn unit {unit} into")
        stream = np.random.SeedSequence([seed, STREAM, zlib.crc32(layer.encode()), int(unit)])
        tasks.append(Task(int(unit), 0, 0, int(np.random.default_rng(stream).choice(others))))
    return tasks


def plan_exemplars(tasks: list[Task], highest, levels: np.ndarray, images: int, layer: str = "") -> Plan:
    """Choose at most `images` images a task, those with the highest activations first.

    `highest(unit)` gives the unit's highest clean activation in each image, (N,); `levels` (U,) are the
    levels above which activations belong to a mask. A targeted task takes turns between the unit's own
    images and its target's. Raises InputError when a unit has no image with a mask.
    """
    parts = []
    for index, task in enumerate(tasks):
        orders = [_images_above(highest(task.unit), levels[task.unit])]
        if not len(orders[0]):
            raise InputError(f"milan.designed: layer {layer}, unit {task.unit} has no image above its level")
        if task.target_unit != NO_UNIT:
            orders.append(_images_above(highest(task.target_unit), levels[task.target_unit]))
        order = _take_turns(orders)[:images]
        image = np.sort(order)
        rank = np.empty(len(order), np.int64)
        rank[np.searchsorted(image, order)] = np.arange(len(order))
        parts.append((image, np.full(len(image), index), rank))
    if not parts:
        return EMPTY
    image, task, rank = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Plan(tasks, image, task, rank, np.zeros(len(image), np.int64), np.ones(len(tasks)))


def _images_above(highest: np.ndarray, level: float) -> np.ndarray:
    """Numbers of the images with a mask, highest activation first, ties by number."""
    highest = highest.astype(np.float32)
    order = np.lexsort((np.arange(len(highest)), -highest))
    return order[highest[order] > np.float32(level)]


def _take_turns(orders: list[np.ndarray]) -> np.ndarray:
    """One of each in turn, every number once."""
    place = np.concatenate([len(orders) * np.arange(len(order)) + turn for turn, order in enumerate(orders)])
    merged = np.concatenate(orders)[np.argsort(place)]
    return merged[np.sort(np.unique(merged, return_index=True)[1])]


def write_row_maps(path, attack: StoredAttack, forward: ForwardPass, inputs=()):
    """Store the maps (P, h, w) of each poisoned image's unit, and under bernoulli noise of the same size."""
    poison = attack.poison
    progress = Progress("show", len(poison.image))
    with write_store(path, "", inputs) as group, forward.reader:
        for name in ("image", "task", "rank"):
            save_array(group, name, getattr(poison, name), ("row",), "number")
        save_array(group, "unit", read(poison.store["unit"]), ("row",), "number")
        arrays = {}
        for first, last in blocks(len(poison.image), 8 * forward.batch):
            span = slice(first, last)
            for name, corrupt in (("maps", attack.designed), ("control", attack.random)):
                shown = show_rows(forward, poison, span, corrupt, measure=False).maps
                if name not in arrays:
                    shape = (len(poison.image), *shown.shape[1:])
                    chunks = (last - first, *shown.shape[1:])
                    arrays[name] = add_array(
                        group, name, shape, forward.dtype, Layout(("row", "y", "x"), "activation", chunks)
                    )
                arrays[name][span] = shown
            progress.add(last - first)


def limit_counts(counts, images: int) -> list[int]:
    """The numbers of poisoned images at which the outcome is read off, ascending, `images` the last."""
    return cut_counts([*counts, images], images)


def cut_counts(counts, images: int) -> list[int]:
    """The different ones of some numbers, ascending, cut to the `images` that a unit has."""
    return sorted({min(int(count), images) for count in counts})
