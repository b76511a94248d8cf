"""Which images are poisoned for which unit, under a budget, most influential first."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from nemesis.corruption.targets import NO_UNIT, Task
from nemesis.dissection.tally import count_masks, label_block, split_pairs
from nemesis.errors import InputError
from nemesis.progress import Progress
from nemesis.stores import blocks, read

GROUP = 64  # images in a batch of the published code
ALL = -1  # task of a row that is poisoned for every task at once


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


NO_ROWS = np.zeros(0, np.int64)
EMPTY = Plan([], NO_ROWS, NO_ROWS, NO_ROWS, NO_ROWS, np.zeros(0))


def survey_probe(tasks: list[Task], maps, thresholds, probe, device, masks: str, shared: bool = False) -> Survey:
    """One pass over the stored maps (and labels) for all tasks; `thresholds` (U,) are the clean ones.

    Only a shared attack needs deviations; they are 1 otherwise.
    """
    shape = (len(tasks), probe.count)
    source, target, overlap = (np.zeros(shape, np.int64) for _ in range(3))
    moments = np.zeros((2, len(tasks)))
    units = np.array([task.unit for task in tasks])
    highest = read(maps.max)[units].astype(np.float32)
    limits = torch.from_numpy(thresholds[units].astype(np.float32)).to(device)
    progress = Progress("survey", probe.count)
    for start, stop in blocks(probe.count, maps.block):
        span = slice(start, stop)
        if masks == "baseline":
            source[:, span] = overlap[:, span] = _cells_above(maps.read_units(span, units), thresholds[units])
            others = np.array([max(task.target_unit, 0) for task in tasks])
            wanted = np.array([task.target_unit != NO_UNIT for task in tasks])
            target[:, span] = _cells_above(maps.read_units(span, others), thresholds[others]) * wanted[:, None]
        else:
            labels = label_block(probe.take_regions(np.arange(start, stop)), probe.scalars[span], device, once=True)
            source[:, span] = labels.area_of([task.source for task in tasks]).T
            target[:, span] = labels.area_of([task.target for task in tasks]).T
            met = (source[:, span] > 0) & (highest[:, span] > thresholds[units].astype(np.float32)[:, None])
            chosen = np.flatnonzero(met.any(axis=1))  # of the others no map need be read
            if len(chosen):
                part = torch.from_numpy(maps.read_units(span, units[chosen])).to(device)
                some = [tasks[index] for index in chosen]
                overlap[chosen, span] = _count_overlap(some, part, limits[torch.from_numpy(chosen)], labels)
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


def budget_images(fraction: float, count: int) -> int:
    """Images that a budget allows: the largest whole number of at most fraction * count."""
    return int(fraction * count + 1e-9)


def _rank_images(influence, highest, chosen):
    """Numbers of the chosen images, ascending, and the rank of each; ties by activation, then number."""
    image = np.flatnonzero(chosen)
    order = np.lexsort((image, -highest[image], -influence[image]))
    rank = np.empty(len(image), np.int64)
    rank[order] = np.arange(len(image))
    return image, rank


def _shares(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(values.sum(axis=1, keepdims=True), 1)


def _cells_above(maps: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return (maps.astype(np.float32) > thresholds.astype(np.float32)[:, None, None, None]).sum(axis=(2, 3))


def _count_overlap(tasks: list[Task], maps, limits, labels) -> np.ndarray:
    """Each task's intersection of unit mask and source in each image of a block, (T, B)."""
    overlap = np.zeros(maps.shape[:2], np.int64)
    sources = [task.source for task in tasks]
    image, task = (maps.amax(dim=(2, 3)).float() > limits[:, None]).T.nonzero(as_tuple=True)
    for part in split_pairs(labels.regions[image]):
        these = task[part]
        arguments = (maps[these, image[part]].float(), limits[these, None], limits[these], labels, image[part])
        for number, span, counts, _ in count_masks(*arguments):  # (P, 1, C')
            concepts, found = labels.images[number].concepts.tolist(), counts[:, 0].long().tolist()
            for index, of in zip(these[span].tolist(), found, strict=True):
                if sources[index] in concepts:
                    overlap[index, number] = of[concepts.index(sources[index])]
    return overlap
