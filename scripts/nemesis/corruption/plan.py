"""Which images are poisoned for which unit, under a budget, most influential first."""

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
import torch

from nemesis.corruption.attacked import AttackedLayer
from nemesis.corruption.targets import NO_UNIT, Aim, Task, choose_tasks
from nemesis.dissection.draws import select_units
from nemesis.dissection.tally import LabelBlock, count_masks, label_block, split_pairs
from nemesis.errors import InputError
from nemesis.perturb.poison import ALL, budget_images
from nemesis.probes.probe import Probe
from nemesis.progress import Progress
from nemesis.stores import blocks, read

GROUP = 64  # images in a batch of the published code


@dataclass(frozen=True)
class Subject:
    """What is attacked: a layer's clean maps and thresholds (U,) on a probe, and how regions are found."""

    probe: Probe
    maps: object
    thresholds: np.ndarray
    masks: str  # segmentation | baseline
    objective: str  # equation7 | published | soft_iou

    @property
    def shape(self) -> tuple[int, int]:
        """Cells of an activation map (h, w)."""
        return self.maps.shape[2:]


@dataclass(frozen=True)
class Survey:
    """What each image offers each of T tasks.

    `source`, `target` (T, N): size of the region, in label pixels (segmentation) or map cells
    (baseline). `overlap` (T, N): pixels of the region that the unit's clean mask covers.
    `highest` (T, N): the unit's highest activation. `deviation` (T,): standard deviation of all its activations.
    """

    source: np.ndarray
    target: np.ndarray
    overlap: np.ndarray
    highest: np.ndarray
    deviation: np.ndarray

    @property
    def influence(self) -> np.ndarray:
        """Share of the unit's intersection plus share of the target's pixels that lie in an image, (T, N)."""
        return _shares(self.overlap) + _shares(self.target)


@dataclass(frozen=True)
class Plan:
    """Rows to poison: image[r] for tasks[task[r]] (ALL: for every task), ascending image within a task.

    `rank` (R,) counts a task's images from the most influential, 0. `group` (R,) are the published code's
    batches. `scale` (T,) divides a unit's activations in a shared attack: their standard deviation.
    """

    tasks: list[Task]
    image: np.ndarray
    task: np.ndarray
    rank: np.ndarray
    group: np.ndarray
    scale: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    @property
    def table(self) -> dict[str, np.ndarray]:
        """The tasks by column, int32 (T,) each, as a poison.zarr has them."""
        names = [field.name for field in dataclasses.fields(Task)]
        return {name: np.array([getattr(task, name) for task in self.tasks], np.int32) for name in names}


NO_ROWS = np.zeros(0, np.int64)
EMPTY = Plan([], NO_ROWS, NO_ROWS, NO_ROWS, NO_ROWS, np.zeros(0))


def select_attacked(layer: AttackedLayer, experiment, setting, seed: int) -> np.ndarray:
    """Units to attack: `setting` (all, a number or a list) among those of the experiment, which is set likewise.

    `all` are those with a label. Raises InputError when a listed unit is not there.
    """
    least = layer.settings["min_iou"]
    known = layer.table[layer.table["unit"].isin(select_units(experiment, layer.table, least, seed, layer.name))]
    units = select_units(setting, known, least, seed, layer.name)
    return known.loc[known["iou"] >= least, "unit"].to_numpy() if setting == "all" else units


def plan_attack(
    layer: AttackedLayer, units, aim: Aim, concepts: list[dict], shard: int = 0, shards: int = 1
) -> tuple[Subject, Plan]:
    """Targets and images of a shard of an attack on some units; `concepts` are the rows of concepts.csv."""
    tasks = choose_tasks(units, layer.table, concepts, aim, layer.name, layer.settings["min_iou"])
    subject = Subject(layer.probe, layer.maps, layer.thresholds, aim.masks, aim.objective)
    if not tasks:
        logging.info("layer %s: no unit has a label; nothing to attack", layer.name)
    shared = aim.mode == "shared"
    tasks = take_tasks(tasks, shard, shards, shared)
    if not tasks:
        return subject, EMPTY
    survey = survey_probe(tasks, subject, layer.device, shared)
    return subject, plan_rows(tasks, survey, aim.max_fraction, shared, layer.name)


def survey_probe(tasks: list[Task], subject: Subject, device, shared: bool = False) -> Survey:
    """One pass over the stored maps (and labels) for all tasks; the subject's thresholds are the clean ones.

    Only a shared attack needs deviations; they are 1 otherwise.
    """
    probe, maps = subject.probe, subject.maps
    source, target, overlap = (np.zeros((len(tasks), probe.count), np.int64) for _ in range(3))
    moments = np.zeros((2, len(tasks)))
    units = np.array([task.unit for task in tasks])
    highest = read(maps.max)[units].astype(np.float32)
    progress = Progress("survey", probe.count)
    for start, stop in blocks(probe.count, maps.block):
        span = slice(start, stop)
        if subject.masks == "baseline":
            source[:, span], target[:, span] = _count_cells(tasks, subject, span)
            overlap[:, span] = source[:, span]
        else:
            labels = label_block(probe.take_regions(np.arange(start, stop)), probe.scalars[span], device, once=True)
            source[:, span] = labels.area_of([task.source for task in tasks]).T
            target[:, span] = labels.area_of([task.target for task in tasks]).T
            met = (source[:, span] > 0) & (highest[:, span] > _limits(tasks, subject)[:, None])
            chosen = np.flatnonzero(met.any(axis=1))  # of the others no map need be read
            if len(chosen):
                overlap[chosen, span] = _count_overlap(
                    [tasks[index] for index in chosen], subject, span, labels, device
                )
        if shared:
            part = maps.read_units(span, units)
            moments += [part.sum(axis=(1, 2, 3), dtype=float), np.square(part, dtype=float).sum(axis=(1, 2, 3))]
        progress.add(stop - start)
    mean, square = moments / (probe.count * np.prod(maps.shape[2:]))
    deviation = np.sqrt(np.maximum(square - mean**2, 0)) if shared else np.ones(len(tasks))
    return Survey(source, target, overlap, highest, deviation)


def plan_rows(tasks: list[Task], survey: Survey, max_fraction: float, shared: bool = False, layer: str = "") -> Plan:
    """Choose each task's images: those with a pixel of its source or target, at most max_fraction of the probe.

    `shared`: one choice for all tasks together, by the sum of their influences. Raises InputError when
    a task has no image to poison.
    """
    count = survey.source.shape[1]
    budget = budget_images(max_fraction, count)
    if not budget:
        raise InputError(f"designed.max_fraction: {max_fraction:g} of {count} images is none; raise it")
    candidates = (survey.source > 0) | (survey.target > 0)  # (T, N)
    for task, found in zip(tasks, candidates, strict=True):
        if not found.any():
            raise InputError(f"designed: layer {layer}, unit {task.unit}: no image has a pixel of its source or target")
    if shared:
        image, rank = _rank_images(survey.influence.sum(axis=0), survey.highest.max(axis=0), candidates.any(axis=0))
        image, rank = image[rank < budget], rank[rank < budget]
        return Plan(tasks, image, np.full(len(image), ALL), rank, np.zeros(len(image), np.int64), survey.deviation)
    parts = []
    for index, chosen in enumerate(candidates):
        image, rank = _rank_images(survey.influence[index], survey.highest[index], chosen)
        image, rank = image[rank < budget], rank[rank < budget]
        group = np.arange(len(image)) // GROUP
        parts.append((image, np.full(len(image), index), rank, index * count + group))
    image, task, rank, group = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Plan(tasks, image, task, rank, group, survey.deviation)


def select_tasks(plan: Plan, keep: np.ndarray) -> Plan:
    """The rows of the tasks for which `keep` (T,) is true; task numbers stay as they are."""
    rows = keep[plan.task]
    parts = {name: getattr(plan, name)[rows] for name in ("image", "task", "rank", "group")}
    return dataclasses.replace(plan, **parts)


def take_tasks(tasks: list[Task], shard: int, shards: int, shared: bool) -> list[Task]:
    """A consecutive part of the tasks; those of a shared attack are one part and its other shards are empty."""
    if shared:
        return tasks if shard == 0 else []
    return [tasks[index] for index in np.array_split(np.arange(len(tasks)), shards)[shard]]


def _rank_images(influence, highest, chosen):
    """Numbers of the chosen images, ascending, and the rank of each; ties by activation, then number."""
    image = np.flatnonzero(chosen)
    order = np.lexsort((image, -highest[image], -influence[image]))
    rank = np.empty(len(image), np.int64)
    rank[order] = np.arange(len(image))
    return image, rank


def _shares(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1)


def _limits(tasks: list[Task], subject: Subject) -> np.ndarray:
    """Each task's clean threshold, float32 (T,)."""
    return subject.thresholds[[task.unit for task in tasks]].astype(np.float32)


def _count_cells(tasks: list[Task], subject: Subject, span: slice) -> tuple[np.ndarray, np.ndarray]:
    """Cells of each task's unit and of its target's that exceed their thresholds in some images, (T, B) each."""

    def count(units: np.ndarray) -> np.ndarray:
        limits = subject.thresholds[units].astype(np.float32)
        maps = subject.maps.read_units(span, units).astype(np.float32)
        return (maps > limits[:, None, None, None]).sum(axis=(2, 3))

    others = np.array([task.target_unit for task in tasks])
    return count(np.array([task.unit for task in tasks])), count(np.maximum(others, 0)) * (others != NO_UNIT)[:, None]


def _count_overlap(tasks: list[Task], subject: Subject, span: slice, labels: LabelBlock, device) -> np.ndarray:
    """Each task's intersection of unit mask and source in each image of a block, (T, B)."""
    units = np.array([task.unit for task in tasks])
    maps = torch.from_numpy(subject.maps.read_units(span, units)).to(device)
    limits = torch.from_numpy(_limits(tasks, subject)).to(device)
    overlap = np.zeros(maps.shape[:2], np.int64)
    sources = [task.source for task in tasks]
    image, task = (maps.amax(dim=(2, 3)).float() > limits[:, None]).T.nonzero(as_tuple=True)
    for part in split_pairs(labels.regions[image]):
        these = task[part]
        arguments = (maps[these, image[part]].float(), limits[these, None], limits[these], labels, image[part])
        for number, found, counts, _ in count_masks(*arguments):  # (P, 1, C')
            concepts, pixels = labels.images[number].concepts.tolist(), counts[:, 0].long().tolist()
            for index, of in zip(these[found].tolist(), pixels, strict=True):
                if sources[index] in concepts:
                    overlap[index, number] = of[concepts.index(sources[index])]
    return overlap
