"""Changes of units lined up for one pass: which clean maps and which changed ones count in which version of a unit."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from nemesis.dissection.tally import Pairs


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
class Altered:
    """Maps (P, h, w) of unit number `unit` on `images` (P,), and in which versions each counts, int64 (P, V)."""

    unit: int
    images: np.ndarray
    maps: np.ndarray
    weights: torch.Tensor


@dataclass(frozen=True)
class Versions:
    """R changes as V versions of U units on N images: change r is version[r] of unit number unit[r].

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
