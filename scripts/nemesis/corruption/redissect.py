"""Dissect a unit again after some images changed, touching nothing else.

A `Change` says which maps of one unit became what. All changes are dissected together in one pass:
thresholds are exact again, only images in which a changed unit exceeds its new threshold are looked
at, maps that several changes of a unit have in common are counted once for all of them, and the
concepts' own areas, which no image changes, come from the clean tally. The result is that of a full
dissection of the corrupted probe, bit for bit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from nemesis.corruption.attacked import AttackedLayer
from nemesis.devices import PROCESSOR
from nemesis.dissection.counts import count_activations, thresholds_from_counts
from nemesis.dissection.tally import (
    Pairs,
    Tally,
    Weighted,
    compute_iou,
    empty_tally,
    label_block,
    tally_images,
    tally_pairs,
)
from nemesis.stores import blocks

IMAGES = 128  # labels laid out at once
MAP_BYTES = 2**28  # clean maps of units held at once


@dataclass(frozen=True)
class Change:
    """Unit `unit` on a probe whose images `images` (P,) (ascending) now give `maps` (P, h, w).

    `threshold`: keep this one instead of finding it anew. `chosen` (P,): only these of the images changed.
    Changes of a unit that share the arrays `images` and `maps` are dissected in less time.
    """

    unit: int
    images: np.ndarray
    maps: np.ndarray
    threshold: float | None = None
    chosen: np.ndarray | None = None

    @cached_property
    def kept(self) -> np.ndarray:
        """Which of the images changed, bool (P,)."""
        return np.ones(len(self.images), bool) if self.chosen is None else self.chosen

    @property
    def count(self) -> int:
        """Images that changed."""
        return int(self.kept.sum())


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


def redissect(changes: list[Change], layer: AttackedLayer, device=PROCESSOR) -> Redissected:
    """Dissect changes of a layer's units; by default on the processor, which has their maps."""
    clean = layer.maps
    units = sorted({change.unit for change in changes})
    per_unit = clean.count * int(np.prod(clean.shape[2:])) * clean.dtype.itemsize
    thresholds, parts = np.zeros(len(changes)), []
    order: list[int] = []
    for first, last in blocks(len(units), max(1, MAP_BYTES // per_unit)):
        chosen = [index for index, change in enumerate(changes) if change.unit in units[first:last]]
        group = [changes[index] for index in chosen]
        maps = clean.read_units(slice(0, clean.count), units[first:last])
        base = dict(zip(units[first:last], maps, strict=True))
        thresholds[chosen] = find_thresholds(group, base, layer.settings)
        parts.append(_tally_changes(group, base, thresholds[chosen], layer, device))
        order += chosen
    back = torch.from_numpy(np.argsort(order)).to(device)
    counts = [torch.cat(part)[back] for part in zip(*parts, strict=True)]
    tally = Tally(*counts, concept_area=torch.as_tensor(layer.areas, device=device))
    return Redissected(thresholds, compute_iou(tally, layer.concepts.on.to(device), layer.settings["iou"]), tally)


def find_thresholds(changes: list[Change], base: dict, settings: Mapping) -> list[float]:
    """Exact thresholds of changed units: each one's clean counts, less the old maps, plus the new ones.

    `base` has the clean maps (N, h, w) of every unit; they are counted once a unit.
    """
    counts: dict[int, np.ndarray] = {}
    return [_find_threshold(change, base[change.unit], counts, settings) for change in changes]


def _find_threshold(change: Change, base: np.ndarray, counts: dict, settings: Mapping) -> float:
    if change.threshold is not None:
        return change.threshold
    if change.unit not in counts:
        counts[change.unit] = count_activations(lambda: [(base[None], 1)], 1)
    difference = [(base[None, change.images[change.kept]], -1), (change.maps[None, change.kept], 1)]
    patterns = counts[change.unit] + count_activations(lambda: difference, 1)
    chunks = lambda: [(base[None], 1), *difference]  # noqa: E731
    found = thresholds_from_counts(patterns, base.dtype, settings["quantile"], settings["threshold"], chunks)
    return float(found.threshold[0])


def _tally_changes(changes: list[Change], base: dict, thresholds, layer: AttackedLayer, device) -> list:
    """Intersection, unit_area and unit_total of each change, over the images in which any of them has a mask."""
    probe, concepts = layer.probe, layer.concepts
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
        place = torch.arange(len(numbers), device=device)
        tally_images(tally, maps, place, Weighted(limits, weights), labels, category_of)
        altered = versions.select(numbers, device)
        if altered is not None:
            tally_pairs(tally, altered[0].__getitem__, altered[1], labels, category_of)
    counted = (tally.intersection, tally.unit_area, tally.unit_total)
    return [part[versions.version, versions.unit] for part in counted]


@dataclass(frozen=True)
class Altered:
    """Maps (P, h, w) of unit number `unit` on `images` (P,), and in which versions each counts, int64 (P, V)."""

    unit: int
    images: np.ndarray
    maps: np.ndarray
    weights: torch.Tensor


@dataclass(frozen=True)
class Versions:
    """R changes as V versions of U units on N images, for one pass: change r is version[r] of unit number unit[r].

    thresholds: float32 (V, U), inf where a unit has fewer versions. clean: bool (V, U, N), the clean maps that count.
    """

    unit: np.ndarray
    version: np.ndarray
    thresholds: torch.Tensor
    clean: torch.Tensor
    altered: list[Altered]

    def find_firing(self, highest: torch.Tensor) -> np.ndarray:
        """Numbers of the images in which any version of a unit exceeds its threshold; `highest` (U, N): clean maps."""
        found = torch.zeros(self.clean.shape[2], dtype=torch.bool)
        for thresholds, clean in zip(self.thresholds, self.clean, strict=True):
            found |= ((highest > thresholds[:, None]) & clean).any(0)
        for part, (rows, _) in zip(self.altered, self.lowest, strict=True):
            found[torch.from_numpy(part.images[rows])] = True
        return found.numpy().nonzero()[0]

    @cached_property
    def lowest(self) -> list[tuple[np.ndarray, torch.Tensor]]:
        """Of each altered part the rows that exceed a threshold that they count under, and the lowest of these."""
        found = []
        for part in self.altered:
            limits = torch.where(part.weights > 0, self.thresholds[:, part.unit], torch.inf).amin(1)  # (P,)
            rows = (highest_values(part.maps) > limits).nonzero()[:, 0]
            found.append((rows.numpy(), limits[rows]))
        return found

    def select(self, numbers: np.ndarray, device) -> tuple[torch.Tensor, Pairs] | None:
        """Altered maps (P', h, w) of the images `numbers` (ascending) that exceed a threshold, as pairs to count."""
        maps, pairs = [], []
        for part, (rows, lowest) in zip(self.altered, self.lowest, strict=True):
            place = np.searchsorted(numbers, part.images[rows])
            place[place == len(numbers)] = 0
            mine = np.flatnonzero(numbers[place] == part.images[rows])
            if not len(mine):
                continue
            maps.append(torch.from_numpy(part.maps[rows[mine]]))
            unit = torch.full((len(mine),), part.unit)
            limits = self.thresholds[:, part.unit].expand(len(mine), -1)
            pairs.append((unit, torch.from_numpy(place[mine]), limits, part.weights[rows[mine]], lowest[mine]))
        if not pairs:
            return None
        pairs = [torch.cat(part) for part in zip(*pairs, strict=True)]
        order = pairs[1].argsort(stable=True)  # image by image
        return torch.cat(maps)[order].to(device), Pairs(*(part[order].to(device) for part in pairs))


def line_up(changes: list[Change], units: Iterable[int], limits: np.ndarray, count: int) -> Versions:
    """Changes of `units` with thresholds `limits` (R,), on a probe of `count` images."""
    places = {unit: place for place, unit in enumerate(units)}
    unit = np.array([places[change.unit] for change in changes])
    version = np.array([(unit[:index] == place).sum() for index, place in enumerate(unit)])
    shape = (int(version.max()) + 1, len(places))
    thresholds = torch.full(shape, torch.inf)
    clean = torch.zeros(*shape, count, dtype=torch.bool)
    parts: dict[tuple, list[int]] = {}
    for index, (change, limit) in enumerate(zip(changes, limits, strict=True)):
        thresholds[version[index], unit[index]] = float(limit)
        clean[version[index], unit[index]] = True
        clean[version[index], unit[index], change.images[change.kept]] = False
        parts.setdefault((unit[index], id(change.images), id(change.maps)), []).append(index)
    altered = []
    for (place, *_), members in parts.items():
        first = changes[members[0]]
        weights = torch.zeros(len(first.images), shape[0], dtype=torch.int64)
        for index in members:
            weights[:, version[index]] = torch.from_numpy(changes[index].kept.astype(np.int64))
        altered.append(Altered(int(place), first.images, first.maps, weights))
    return Versions(unit, version, thresholds, clean, altered)


def highest_values(maps: np.ndarray) -> torch.Tensor:
    """Highest value of each of P maps (P, h, w), float32 (P,)."""
    if not len(maps):
        return torch.empty(0)
    return torch.from_numpy(maps).flatten(1).amax(1).float()
