"""Attack the rows of a plan: full batches, however many units they belong to."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from nemesis.corruption.objective import MeanActivation, PublishedCost
from nemesis.corruption.plan import ALL, Plan
from nemesis.corruption.regions import concept_masks, unit_masks
from nemesis.dissection.upsample import carry_down
from nemesis.probes.probe import Probe
from nemesis.progress import Progress
from nemesis.threads import load_ahead

WINDOW_BYTES = 2**24  # of 8-bit images loaded at once


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
class Window:
    """Some rows, loaded: images uint8 (R', 3, H, W), and each entry's row, unit and regions."""

    images: np.ndarray
    row: np.ndarray  # (E,)
    unit: np.ndarray  # (E,)
    source: np.ndarray  # (E, Hs, Ws) or (E, h, w) bool
    target: np.ndarray
    weights: np.ndarray | None  # (E, h, w); None for a cost of whole batches


def attack_rows(
    attack, plan: Plan, subject: Subject, eps: np.ndarray, batch: int
) -> Iterator[tuple[slice, np.ndarray, torch.Tensor]]:
    """Yield (rows, clean uint8 (R', 3, H, W), attacked float32 in [0, 1] on the device) until all rows are done.

    `attack` is a UnitPGD or UnitFGSM inside its reader's `with` block; `eps` (R,) is in 1/255.
    """
    if not len(plan):
        return
    progress = Progress("attack", len(plan))
    spans = plan_windows(plan, subject, batch)
    loaded = load_ahead(lambda span: load_window(plan, subject, span[0]), spans)
    for (rows, batches), window in zip(spans, loaded, strict=True):
        parts = []
        for first, last in batches:
            inside = slice(first - rows.start, last - rows.start)
            images = torch.from_numpy(window.images[inside]).to(attack.device).float() / 255
            radius = torch.from_numpy(eps[first:last].astype(np.float32) / np.float32(255))
            objective = make_objective(window, inside, subject, attack.device)
            parts.append(attack(images, objective, radius))
            progress.add(last - first)
        yield rows, window.images, torch.cat(parts)


def plan_windows(plan: Plan, subject: Subject, batch: int) -> list[tuple[slice, list[tuple[int, int]]]]:
    """Consecutive rows that are loaded together, and their batches: full ones, or the published groups."""
    if costs_batches(plan, subject):
        edges = [0, *(np.flatnonzero(np.diff(plan.group)) + 1), len(plan)]
    else:
        edges = [*range(0, len(plan), batch), len(plan)]
    batches = list(itertools.pairwise(edges))
    per_window = max(1, WINDOW_BYTES // (3 * int(np.prod(subject.probe.size))) // batch)
    groups = [batches[start : start + per_window] for start in range(0, len(batches), per_window)]
    return [(slice(int(group[0][0]), int(group[-1][1])), group) for group in groups]


def costs_batches(plan: Plan, subject: Subject) -> bool:
    """Is the cost one of a whole batch, those of the published code (`plan.group`)? That of a shared attack is not."""
    return subject.objective != "equation7" and ALL not in plan.task


def load_window(plan: Plan, subject: Subject, rows: slice) -> Window:
    """Images and regions of some rows of a plan."""
    numbers = plan.image[rows]
    images = subject.probe.take_images(numbers)
    labels = None if subject.masks == "baseline" else subject.probe.take_labels(numbers)
    window = _load_shared if plan.task[rows.start] == ALL else _load_single
    row, tasks, scale, source, target = window(plan, subject, rows, labels)
    unit = np.array([task.unit for task in tasks], np.int64)
    if costs_batches(plan, subject):
        return Window(images, row, unit, source, target, None)
    weights = []
    for region in (source, target):
        total = region.sum(axis=(1, 2))
        cells = region if subject.masks == "baseline" else carry_down(region, subject.shape)
        weights.append(cells / np.maximum(total, 1e-8)[:, None, None].astype(np.float32))
    return Window(images, row, unit, source, target, (weights[0] - weights[1]) / scale[:, None, None])


def _load_single(plan: Plan, subject: Subject, rows: slice, labels):
    """Each row's own task."""
    tasks = [plan.tasks[index] for index in plan.task[rows]]
    numbers = plan.image[rows]
    if subject.masks == "baseline":
        regions = (
            _masks_of(subject, [task.unit for task in tasks], numbers),
            _masks_of(subject, [task.target_unit for task in tasks], numbers),
        )
    else:
        find = partial(concept_masks, labels, subject.probe.scalars[numbers])
        regions = (find([task.source for task in tasks]), find([task.target for task in tasks]))
    return np.arange(len(tasks)), tasks, np.ones(len(tasks), np.float32), *regions


def _load_shared(plan: Plan, subject: Subject, rows: slice, labels):
    """Every task with a source pixel in the row's image; its activations count in their own deviations."""
    numbers = plan.image[rows]
    found, tasks, scale, regions = [], [], [], []
    for task, deviation in zip(plan.tasks, plan.scale, strict=True):
        if subject.masks == "baseline":
            region = _masks_of(subject, [task.unit] * len(numbers), numbers)
        else:
            region = concept_masks(labels, subject.probe.scalars[numbers], np.full(len(numbers), task.source))
        present = np.flatnonzero(region.any(axis=(1, 2)))
        found.append(present)
        tasks += [task] * len(present)
        scale += [max(deviation, 1e-8)] * len(present)
        regions.append(region[present])
    source = np.concatenate(regions)
    return np.concatenate(found), tasks, np.array(scale, np.float32), source, np.zeros_like(source)


def _masks_of(subject: Subject, units: list[int], numbers) -> np.ndarray:
    """Clean masks of units[b] in image numbers[b], bool (B, h, w); unit -1 has none."""
    units, numbers = np.array(units), np.asarray(numbers)
    masks = np.zeros((len(units), *subject.shape), bool)
    for unit in np.unique(units[units >= 0]):
        mine = np.flatnonzero(units == unit)
        first, last = numbers[mine].min(), numbers[mine].max() + 1
        maps = subject.maps.read(slice(int(first), int(last)), slice(int(unit), int(unit) + 1))[0]
        masks[mine] = unit_masks(maps[numbers[mine] - first], np.repeat(subject.thresholds[unit], len(mine)))
    return masks


def make_objective(window: Window, inside: slice, subject: Subject, device):
    """The objective of a batch: the entries of the window's rows `inside`."""
    chosen = np.flatnonzero((window.row >= inside.start) & (window.row < inside.stop))

    def tensor(values, dtype=np.float32):
        return torch.from_numpy(np.ascontiguousarray(values[chosen], dtype)).to(device)

    if window.weights is None:
        unit, kind = int(window.unit[chosen[0]]), bool if subject.masks == "baseline" else np.float64
        cutoff = float(subject.thresholds[unit]) if subject.objective == "soft_iou" else None
        return PublishedCost(unit, tensor(window.source, kind), tensor(window.target, kind), cutoff)
    row = tensor(window.row, np.int64) - inside.start
    return MeanActivation(row, tensor(window.unit, np.int64), tensor(window.weights))


def round_inside(clean: np.ndarray, attacked: torch.Tensor, eps: np.ndarray) -> np.ndarray:
    """8-bit difference of attacked (float in [0, 1]) to clean images, int16, inside each one's eps (R,), in 1/255.

    It is computed where `attacked` is.
    """
    limit = np.floor(np.asarray(eps) + 1e-6).astype(np.int16)[:, None, None, None]
    limit, clean = (torch.from_numpy(values).to(attacked.device) for values in (limit, clean))
    delta = (attacked * 255).round_().to(torch.int16).sub_(clean)
    return torch.minimum(torch.maximum(delta, -limit), limit).cpu().numpy()
