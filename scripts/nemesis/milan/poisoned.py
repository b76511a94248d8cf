"""Exemplars of attacked units on their corrupted probes, and under noise of the same size."""

from functools import partial

import numpy as np

from nemesis.corruption.shown import Corrupt, StoredAttack
from nemesis.milan.attack import DESIGNED, RANDOM, DescribedLayer, cut_counts
from nemesis.milan.exemplars import Changed, Exemplars, ExemplarSettings, change_exemplars
from nemesis.perturb.poison import Poison
from nemesis.stores import read


def collect_poisoned_exemplars(
    layer: DescribedLayer, attack: StoredAttack, row_maps, counts: list[int], settings: ExemplarSettings
) -> Exemplars:
    """A row for every attacked unit and number of `counts`, then as many under bernoulli noise on the same images.

    A unit with fewer images than a number gets one row with all of them (attack.cut_counts). row_maps: the store
    that attack.write_row_maps made. Columns: count (images used), control (0 designed, 1 noise), target_unit
    (-1 = none).
    """
    poison = attack.poison
    changes: list[Changed] = []
    columns: dict[str, list[int]] = {"count": [], "control": [], "target_unit": []}
    sources = ((DESIGNED, "maps", attack.designed), (RANDOM, "control", attack.random))
    for index, task in enumerate(poison.tasks):
        span = poison.span_of([index])
        image, rank = poison.image[span], poison.rank[span]
        for control, name, corrupt in sources:
            maps = read(row_maps[name], span)
            load = partial(_load, layer.probe, poison, span, corrupt)
            for count in cut_counts(counts, len(image)):
                used = rank < count
                changes.append(Changed(task.unit, image[used], maps[used], load))
                for column, value in zip(columns, (count, control, task.target_unit), strict=True):
                    columns[column].append(value)
    numbers = {name: np.array(values, np.int32) for name, values in columns.items()}
    return change_exemplars(layer.maps, changes, layer.probe.take_images, settings, numbers)


def _load(probe, poison: Poison, span: slice, corrupt: Corrupt, numbers: np.ndarray) -> np.ndarray:
    """The corrupted images `numbers`, which are among those of the span's rows."""
    found = []
    for number in numbers:
        row = span.start + int(np.searchsorted(poison.image[span], number))
        found.append(corrupt(slice(row, row + 1), probe.take_images([number]), np.array([number]))[0])
    return np.stack(found)
