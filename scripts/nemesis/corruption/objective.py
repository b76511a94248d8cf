"""What a designed corruption minimises, and over which regions (Eq. 7 to 9 of Srivastava et al., ICCV 2023).

Every objective takes a layer's maps (B, U, h, w) and returns the cost of each image, (B,), or of the batch, (1,).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from nemesis.corruption.plan import Plan, Subject
from nemesis.dissection.upsample import carry_down
from nemesis.perturb.poison import ALL


@dataclass(frozen=True)
class MeanActivation:
    """Mean activation over the source's pixels minus that over the target's, for any set of (image, unit).

    The mean of an upsampled map over a region is a weighted sum of the map's cells (see
    dissection.upsample), so entry e adds sum(weights[e] * maps[row[e], unit[e]]) to image row[e].
    """

    row: torch.Tensor  # (E,) image in the batch
    unit: torch.Tensor  # (E,)
    weights: torch.Tensor  # (E, h, w)

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        terms = (maps[self.row, self.unit] * self.weights).sum(dim=(1, 2))  # (E,)
        return torch.zeros(len(maps), dtype=terms.dtype, device=maps.device).index_add(0, self.row, terms)


@dataclass(frozen=True)
class PublishedCost:
    """The published code's cost, in its own arithmetic: a ratio over a whole batch of one unit's images, one number.

    The mean activation over all source pixels of the batch (or, where `cutoff` is given, the soft IoU of the source
    and the mask sigmoid((map - cutoff) / std(map)), std over the batch), minus the same with the target. So the
    result depends on which images share a batch. Sign steps amplify a float's last bits: upsampled maps times masks,
    in float64 for masks of concepts, give the published images where carried-down weights give others.
    """

    unit: int
    source: torch.Tensor  # (B, Hs, Ws) float64, 0 or 1; bool (B, h, w) for masks of units
    target: torch.Tensor  # likewise
    cutoff: float | None = None  # the unit's clean activation threshold

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        size = self.source.shape[1:]
        up = F.interpolate(maps[:, self.unit, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        return (self._find_ratio(up, self.source) - self._find_ratio(up, self.target))[None]  # (1,)

    def _find_ratio(self, up: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
        if self.cutoff is None:
            return (up * region).sum() / (region.sum() + 1e-8)
        mask = torch.sigmoid((up - self.cutoff) / up.std())  # (B, Hs, Ws); anew for each region, as published
        return (mask * region).sum() / (torch.maximum(mask, region).sum() + 1e-8)


@dataclass(frozen=True)
class Window:
    """Some rows, loaded: images uint8 (R', 3, H, W), and each entry's row, unit and regions."""

    images: np.ndarray
    row: np.ndarray  # (E,)
    unit: np.ndarray  # (E,)
    source: np.ndarray  # (E, Hs, Ws) or (E, h, w) bool
    target: np.ndarray
    weights: np.ndarray | None  # (E, h, w); None for a cost of whole batches


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


def concept_masks(labels: np.ndarray, scalars: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Pixels of concept numbers[b] in image b, on any plane, bool (B, Hs, Ws); number 0 has none.

    `labels` is (B, K, Hs, Ws), `scalars` (B, S): an image-level label covers the image.
    """
    numbers = np.asarray(numbers).astype(labels.dtype)
    masks = (labels == numbers[:, None, None, None]).any(axis=1)
    masks |= (scalars == numbers[:, None]).any(axis=1)[:, None, None]
    masks[numbers == 0] = False
    return masks


def unit_masks(maps: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Cells of maps (B, h, w) above each one's threshold (B,), bool: Eq. 8, at the map's own resolution.

    As in the published code, which takes masks and loss at feature resolution here.
    """
    return maps.astype(np.float32) > np.asarray(thresholds, np.float32)[:, None, None]
