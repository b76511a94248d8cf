"""Exact activation thresholds from counts of values (Eq. 1 of Srivastava et al., ICCV 2023).

A float16 value has one of 65,536 bit patterns, so one count per pattern and unit holds the
whole distribution: counts of shards add up, and a changed image is an exact update (subtract
its old counts, add its new ones). float32 values are counted by their upper 16 bits, then,
inside the bins that matter, by their lower 16 bits.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

BINS = 65536
SIGN = 0x8000
PIECE = 2**22  # values counted at once; more would be copied to 64 bits whole
HELD_BYTES = 2**26  # of maps that wait to be counted
# Bit patterns of 16-bit floats (or of the upper halves of 32-bit ones) in ascending order of value.
ORDER = np.concatenate([np.arange(BINS - 1, SIGN - 1, -1), np.arange(SIGN)]).astype(np.uint16)
LEVEL_PUBLISHED = np.float32(994 / 999)  # what the published code reads for quantile 0.005


@dataclass(frozen=True)
class Thresholds:
    """Activation thresholds of U units: each array is (U,)."""

    threshold: np.ndarray  # float64
    n_values: np.ndarray  # int64
    exceeding_fraction: np.ndarray  # share of the values above the threshold
    dead: np.ndarray  # no value exceeds the threshold


Chunks = Callable[[], Iterator[tuple[np.ndarray, int]]]


def counting_dtype(values: int) -> np.dtype:
    """The smallest unsigned integers that hold counts of so many values."""
    return np.min_scalar_type(int(values))


class PatternCounts:
    """Counts of the values of U units, `counts` (U, 65536), a bin a bit pattern, of float16 maps that come in parts.

    `values` is how many values a unit has in the end. Maps wait until a unit has as many values as there are bins, or
    for HELD_BYTES: a pass over the bins of a few values would take longer than to count them. In memory: 256 KiB a
    unit (128 KiB below 65,536 values, 512 KiB from 2^32 on) and the maps that wait.
    """

    def __init__(self, units: int, values: int):
        self.counts = np.zeros((units, BINS), counting_dtype(values))
        self._held: list[np.ndarray] = []

    def add(self, maps: np.ndarray):
        """Count maps (U, B, h, w), now or later; they must not change any more."""
        self._held.append(maps)
        waiting = sum(part.size for part in self._held)
        if waiting >= BINS * len(maps) or 2 * waiting >= HELD_BYTES:
            self.finish()

    def finish(self) -> np.ndarray:
        """Count what waits; all counts."""
        if self._held:
            parts, self._held = self._held, []
            units = zip(*parts, strict=True)
            add_counts(self.counts, (np.concatenate([part.ravel() for part in unit]) for unit in units))
        return self.counts


def add_counts(patterns: np.ndarray, maps: np.ndarray, weight: int = 1, prefix: np.ndarray | None = None):
    """Add `weight` times the values of each unit to `patterns` (U, 65536), a bin a bit pattern.

    `maps` has U arrays of float16, or float32: then the upper 16 bits are counted, or, where
    `prefix` (U,) is given, the lower 16 bits of the values whose upper bits equal it.
    """
    for unit, values in enumerate(maps):
        flat = values.reshape(-1)
        for start in range(0, len(flat), PIECE):
            piece = flat[start : start + PIECE]
            found = np.bincount(_patterns_of(piece, None if prefix is None else prefix[unit]))
            row = patterns[unit, : len(found)]
            np.add(row, found if weight == 1 else weight * found, out=row, casting="unsafe")


def _patterns_of(values: np.ndarray, prefix) -> np.ndarray:
    """Bit patterns of values (n,): 16 bits, the upper 16 of 32, or the lower 16 of those whose upper equal `prefix`."""
    if values.dtype == np.float16:
        return np.ascontiguousarray(values).view(np.uint16)
    bits = (values + np.float32(0)).view(np.uint32)  # the sum turns -0 into +0
    upper = bits >> np.uint32(16)
    return upper if prefix is None else bits[upper == prefix] & np.uint32(0xFFFF)


def count_activations(chunks: Chunks, units: int, prefix: np.ndarray | None = None) -> np.ndarray:
    """Counts of `units` units over all chunks, int64 (U, 65536), a bin a bit pattern; see `add_counts`."""
    patterns = np.zeros((units, BINS), np.int64)
    for maps, weight in chunks():
        add_counts(patterns, maps, weight, prefix)
    return patterns


def compute_thresholds(chunks: Chunks, units: int, dtype, quantile: float = 0.005, rule: str = "exact") -> Thresholds:
    """Thresholds of a group of units from their maps.

    `chunks()` iterates over (maps (U, B, h, w), weight) with weight an integer: the maps of
    images that were taken out count -1. `quantile` is eta of Eq. 1; `rule` is `exact` (linear
    interpolation between the two order statistics, as numpy's default) or `published` (level
    994/999 by Hazen's rule in float32, as the published code reads its sketch).
    """
    return thresholds_from_counts(count_activations(chunks, units), dtype, quantile, rule, chunks)


def thresholds_from_counts(
    patterns: np.ndarray, dtype, quantile: float = 0.005, rule: str = "exact", chunks: Chunks | None = None
) -> Thresholds:
    """Thresholds from counts of bit patterns (U, 65536); float32 also needs the maps, for the lower 16 bits."""
    counts = _Ascending(ascending(patterns, np.dtype(dtype) == np.float16))
    if np.dtype(dtype) == np.float16:
        select = partial(_select_float16, counts)
    else:
        select = partial(_select_float32, chunks, counts)
    return thresholds_from_ranks(counts.below[:, -1], select, quantile, rule)


def thresholds_from_ranks(total: np.ndarray, select: Callable, quantile: float, rule: str) -> Thresholds:
    """Thresholds of U units with `total` (U,) values each.

    `select(ranks)` gives the value at each 0-based rank (U,), ascending, and how many are at most that value.
    """
    positions = [_order_statistics(int(n), quantile, rule) for n in total]
    low, high = (np.array([p[i] for p in positions]) for i in (0, 1))
    weight = np.array([p[2] for p in positions])
    below, at_most_below = select(low)
    above, at_most_above = select(high)
    threshold = _interpolate(below, above, weight)
    if rule == "published":
        threshold = threshold.astype(np.float32).astype(np.float64)
    exceeding = total - np.where(threshold >= above, at_most_above, at_most_below)
    return Thresholds(threshold, total, exceeding / np.maximum(total, 1), exceeding == 0)


def _order_statistics(n: int, quantile: float, rule: str) -> tuple[int, int, float]:
    """0-based ranks below and above the level, and the weight of the one above."""
    if rule == "exact":
        position = (n - 1) * (1.0 - quantile)
        low = min(math.floor(position), n - 1)
        return low, min(low + 1, n - 1), position - low
    guess = min(max(int(float(LEVEL_PUBLISHED) * n + 0.5), 1), n)
    ranks = np.unique(np.clip(np.arange(guess - 3, guess + 4), 1, n))
    spots = ((ranks - 0.5) / n).astype(np.float32).astype(float)
    level = np.interp(float(LEVEL_PUBLISHED), spots, ranks - 1.0)
    low = math.floor(level)
    return low, min(low + 1, n - 1), level - low


def _interpolate(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """numpy's linear rule, which is exact at both ends and monotone."""
    step = above - below
    value = below + step * weight
    return np.where(weight >= 0.5, above - step * (1 - weight), value)


def ascending(patterns: np.ndarray, merge_zeros: bool) -> np.ndarray:
    """Counts of bit patterns (U, 65536) in ascending order of value; -0 counts as +0 where asked."""
    counts = np.concatenate([patterns[:, : SIGN - 1 : -1], patterns[:, :SIGN]], axis=1)  # as ORDER has it
    if merge_zeros:
        counts[:, SIGN] += counts[:, SIGN - 1]
        counts[:, SIGN - 1] = 0
    return counts


class _Ascending:
    """Counts (U, 65536) of values in ascending order, and how many lie up to the end of each 256 bins, (U, 256)."""

    def __init__(self, counts: np.ndarray):
        self.counts = counts
        self.below = counts.reshape(len(counts), 256, -1).sum(axis=2, dtype=np.int64).cumsum(axis=1)

    def find(self, ranks: np.ndarray):
        """Bin of the value at each 0-based rank, and the counts up to and including it, and before it, (U,) each."""
        bins, at_most, before = (np.empty(len(self.counts), np.int64) for _ in range(3))
        for unit, rank in enumerate(ranks):
            group = int(np.searchsorted(self.below[unit], rank, side="right"))
            start = self.below[unit, group - 1] if group else 0
            inside = self.counts[unit, 256 * group : 256 * (group + 1)]
            fine = start + inside.cumsum(dtype=np.int64)
            index = int(np.searchsorted(fine, rank, side="right"))
            bins[unit], at_most[unit] = 256 * group + index, fine[index]
            before[unit] = fine[index] - int(inside[index])
        return bins, at_most, before


def _select_float16(counts: _Ascending, ranks: np.ndarray):
    """Value at each 0-based rank, and how many values are at most that value."""
    bins, at_most, _ = counts.find(ranks)
    return ORDER[bins].view(np.float16).astype(np.float64), at_most


def _select_float32(chunks: Chunks, counts: _Ascending, ranks: np.ndarray):
    bins, _, before = counts.find(ranks)
    upper = ORDER[bins]  # (U,) uint16 bit patterns
    lower = count_activations(chunks, len(bins), upper)
    negative = upper >= SIGN
    lower[negative] = lower[negative, ::-1]  # more negative first
    low, at_most, _ = _Ascending(lower).find(ranks - before)
    low = np.where(negative, BINS - 1 - low, low)
    values = ((upper.astype(np.uint32) << np.uint32(16)) | low.astype(np.uint32)).view(np.float32)
    return values.astype(np.float64), before + at_most
