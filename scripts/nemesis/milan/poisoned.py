"""Exemplars of attacked units on their corrupted probes, and under noise of the same size."""

from functools import partial

import numpy as np

from nemesis.corruption.poisoned import Poison
from nemesis.corruption.rows import Corrupt, poisoned_images, random_images
from nemesis.milan.attack import DESIGNED, RANDOM, Described, cut_counts
from nemesis.milan.exemplars import Changed, Exemplars, ExemplarSettings, Normalisation, change_exemplars
from nemesis.stores import read


def collect_poisoned_exemplars(
    layer: Described,
    poison: Poison,
    row_maps,
    counts: list[int],
    storage: str,
    seed: int,
    k: int,
    quantile: float,
    size: int,
    normalisation: Normalisation | None = None,
) -> Exemplars:
    """A row for every attacked unit and number of `counts`, then as many under bernoulli noise on the same images.

    A unit with fewer images than a number gets one row with all of them (attack.cut_counts).

    A unit with fewer images than a number gets one row with all of them (attack.cut_counts). row_maps: the store
    that attack.write_row_maps made. Columns: count (images used), control (0 designed, 1 noise), target_unit
    (-1 = none). Others: see exemplars.collect_exemplars.
    """
    changes: list[Changed] = []
    columns: dict[str, list[int]] = {"count": [], "control": [], "target_unit": []}
    sources = (
        (DESIGNED, "maps", poisoned_images(poison, storage)),
        (RANDOM, "control", random_images(poison.attrs["eps"], seed, storage)),
    )
    for index, task in enumerate(poison.tasks):
        rows = poison.rows_of(index)
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        for control, name, corrupt in sources:
            maps = read(row_maps[name], span)
            load = partial(_load, layer.probe, poison, rows, corrupt)
            for count in cut_counts(counts, len(rows)):
                used = poison.rank[rows] < count
                changes.append(Changed(task.unit, poison.image[rows][used], maps[used], load))
                for column, value in zip(columns, (count, control, task.target_unit), strict=True):
                    columns[column].append(value)
    return change_exemplars(
        layer.maps,
        changes,
        layer.probe.take_images,
        ExemplarSettings(k, quantile, size, normalisation),
        columns={name: np.array(values, np.int32) for name, values in columns.items()},
    )


def _load(probe, poison: Poison, rows: np.ndarray, corrupt: Corrupt, numbers: np.ndarray) -> np.ndarray:
    """The corrupted images `numbers`, which are among those of the consecutive `rows`."""
    found = []
    for number in numbers:
        row = int(rows[np.searchsorted(poison.image[rows], number)])
        found.append(corrupt(slice(row, row + 1), probe.take_images([number]), np.array([number]))[0])
    return np.stack(found)
