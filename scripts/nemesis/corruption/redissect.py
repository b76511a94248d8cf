"""Dissect a unit again after some images changed, touching nothing else.

A `Change` says which maps of one unit became what. All changes are dissected together in one pass:
thresholds are exact again, only images in which a changed unit exceeds its new threshold are looked
at, maps that several changes of a unit have in common are counted once for all of them, and the
concepts' own areas, which no image changes, come from the clean tally. The result is that of a full
dissection of the corrupted probe, bit for bit.
"""

from dataclasses import dataclass

import numpy as np
import torch

from nemesis.corruption.versions import Change, highest_values, line_up
from nemesis.dissection.counts import count_activations, thresholds_from_counts
from nemesis.dissection.dissect import Concepts
from nemesis.dissection.tally import Tally, compute_iou, empty_tally, label_block, tally_images, tally_pairs
from nemesis.stores import blocks

IMAGES = 128  # labels laid out at once
MAP_BYTES = 2**28  # clean maps of units held at once


@dataclass(frozen=True)
class Redissected:
    """Of V changes: thresholds (V,), IoU with every concept (V, L), and the counts behind it."""

    thresholds: np.ndarray
    iou: np.ndarray
    tally: Tally

    def part(self, changes: slice) -> "Redissected":
        """Those of some changes."""
        counts = (self.tally.intersection, self.tally.unit_area, self.tally.unit_total)
        tally = Tally(*(count[changes] for count in counts), self.tally.concept_area)
        return Redissected(self.thresholds[changes], self.iou[changes], tally)

    @property
    def numbers(self) -> np.ndarray:
        """Best concept of each change, ties to the lower number; 0 where none meets."""
        best = self.iou.argmax(axis=1)
        return np.where(self.iou[np.arange(len(best)), best] > 0, best, 0)


def redissect(changes: list[Change], clean, probe, concepts: Concepts, areas, device, settings: dict) -> Redissected:
    """Dissect every change; `clean` are the stored clean maps and `areas` (L,) the clean concept areas."""
    units = sorted({change.unit for change in changes})
    per_unit = clean.count * int(np.prod(clean.shape[2:])) * clean.dtype.itemsize
    thresholds, parts = np.zeros(len(changes)), []
    order: list[int] = []
    for first, last in blocks(len(units), max(1, MAP_BYTES // per_unit)):
        chosen = [index for index, change in enumerate(changes) if change.unit in units[first:last]]
        group = [changes[index] for index in chosen]
        maps = clean.read_units(slice(0, clean.count), units[first:last])
        base = dict(zip(units[first:last], maps, strict=True))
        thresholds[chosen] = find_thresholds(group, base, settings)
        parts.append(_tally_changes(group, base, thresholds[chosen], probe, concepts, device))
        order += chosen
    back = torch.from_numpy(np.argsort(order)).to(device)
    counts = [torch.cat(part)[back] for part in zip(*parts, strict=True)]
    tally = Tally(*counts, concept_area=torch.as_tensor(areas, device=device))
    return Redissected(thresholds, compute_iou(tally, concepts.on.to(device), settings["iou"]), tally)


def find_thresholds(changes: list[Change], base: dict, settings: dict) -> list[float]:
    """Exact thresholds of changed units: each one's clean counts, less the old maps, plus the new ones.

    `base` has the clean maps (N, h, w) of every unit; they are counted once a unit.
    """
    counts: dict[int, np.ndarray] = {}
    return [_find_threshold(change, base[change.unit], counts, settings) for change in changes]


def _find_threshold(change: Change, base: np.ndarray, counts: dict, settings: dict) -> float:
    if change.threshold is not None:
        return change.threshold
    if change.unit not in counts:
        counts[change.unit] = count_activations(lambda: [(base[None], 1)], 1)
    difference = [(base[None, change.images[change.kept]], -1), (change.maps[None, change.kept], 1)]
    patterns = counts[change.unit] + count_activations(lambda: difference, 1)
    chunks = lambda: [(base[None], 1), *difference]  # noqa: E731
    found = thresholds_from_counts(patterns, base.dtype, settings["quantile"], settings["threshold"], chunks)
    return float(found.threshold[0])


def _tally_changes(changes: list[Change], base: dict, thresholds, probe, concepts: Concepts, device) -> list:
    """Intersection, unit_area and unit_total of each change, over the images in which any of them has a mask."""
    category_of = concepts.on.to(device)
    versions = line_up(changes, base, thresholds, probe.count)
    tally = empty_tally(*versions.thresholds.shape, category_of, len(concepts.categories))
    limits = versions.thresholds.to(device)
    images = versions.find_firing(torch.stack([highest_values(maps) for maps in base.values()]))
    for first, last in blocks(len(images), IMAGES):
        numbers = images[first:last]
        labels = label_block(probe.take_regions(numbers), probe.scalars[numbers], device)
        maps = torch.from_numpy(np.stack([maps[numbers] for maps in base.values()])).to(device)  # (U, B, h, w)
        weights = versions.clean[:, :, numbers].long().to(device)
        tally_images(tally, maps, limits, labels, category_of, weights, torch.arange(len(numbers), device=device))
        altered = versions.select(numbers, device)
        if altered is not None:
            tally_pairs(tally, altered[0].__getitem__, altered[1], labels, category_of)
    counted = (tally.intersection, tally.unit_area, tally.unit_total)
    return [part[versions.version, versions.unit] for part in counted]
