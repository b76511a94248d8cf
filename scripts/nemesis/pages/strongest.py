"""The strongest images of a unit as the page shows them: with its mask, and poisoned ones beside the clean ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nemesis.corruption.poisoned import Poisoned
from nemesis.dissection.stored import StoredMaps
from nemesis.dissection.tops import TOP, Tops, rank_images
from nemesis.dissection.upsample import upsample
from nemesis.milan.exemplars import Exemplars
from nemesis.probes.probe import Probe
from nemesis.stores import read, take

PAIRS = 3  # most influential poisoned images that are shown beside the clean ones


@dataclass(frozen=True)
class StrongestImages:
    """A unit's strongest images: numbers (T,), masks bool (T, H, W), and which of them were changed (T,).

    `poisoned` holds, by number, changed images uint8 (3, H, W) and their difference int16 to the clean ones, where
    the page shows them beside these.
    """

    unit: int
    ids: np.ndarray
    masks: np.ndarray
    changed: np.ndarray
    poisoned: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def show_tops(tops: Tops, setting: int, size, chosen: np.ndarray) -> Iterator[StrongestImages]:
    """The strongest images of every unit; those in `chosen` were changed."""
    for row, unit in enumerate(tops.unit):
        masks = upsample(tops.maps[setting, row], tuple(size)) > np.float32(tops.threshold[setting, row])
        ids = tops.ids[setting, row].astype(np.int64)
        yield StrongestImages(int(unit), ids, masks, np.isin(ids, chosen))


def show_attack(
    probe: Probe, clean: StoredMaps, table: pd.DataFrame, read_task: Callable[[int], Poisoned]
) -> Iterator[StrongestImages]:
    """The strongest images of every attacked unit on its corrupted probe, in the order of the table's rows."""
    units = table["unit"].to_numpy(np.int64)
    clean_max = read(clean.max)
    for task, unit in enumerate(units):
        attacked = read_task(task)
        highest = clean_max[unit].astype(np.float32)
        highest[attacked.image] = attacked.maps.max(axis=(1, 2))
        ids = rank_images(highest)
        maps = clean.pick(np.full(len(ids), unit), ids)
        places = [attacked.place(int(number)) for number in ids]
        for rank, place in enumerate(places):
            if place is not None:
                maps[rank] = attacked.maps[place]
        masks = upsample(maps, tuple(probe.size)) > np.float32(table["threshold"].iloc[task])
        shown = [place for place in places if place is not None]
        shown += [place for place in range(min(PAIRS, len(attacked.image))) if place not in shown]
        changed = np.array([place is not None for place in places])
        yield StrongestImages(
            int(unit), ids, masks, changed, _poison(probe, attacked.image[shown], attacked.delta[shown])
        )


def show_exemplars(
    probe: Probe, exemplars: Exemplars, setting: dict, poison=None, chosen=()
) -> Iterator[StrongestImages]:
    """The first exemplars of the rows with these columns; those in `chosen` or of the unit's attack were changed.

    `poison` is an opened poison.zarr, of which the setting's `count` most influential images were used.
    """
    found = np.ones(len(exemplars), bool)
    for name, value in setting.items():
        found &= np.isclose(np.asarray(exemplars.columns[name], float), float(value))
    if poison is not None:
        image, of_unit, rank = (read(poison[name]) for name in ("image", "unit", "rank"))
    for row in np.flatnonzero(found):
        unit, ids = int(exemplars.unit[row]), exemplars.ids[row][:TOP].astype(np.int64)
        masks, numbers, poisoned = exemplars.masks[row][:TOP, 0], np.asarray(chosen, np.int64), {}
        if poison is not None:
            rows = np.flatnonzero((of_unit == unit) & (rank < setting["count"]))
            numbers = image[rows]
            shown = np.unique(np.concatenate([rows[np.isin(numbers, ids)], rows[:PAIRS]]))
            poisoned = _poison(probe, image[shown], take(poison["delta"], shown))
        yield StrongestImages(unit, ids, masks, np.isin(ids, numbers), poisoned)


def _poison(probe: Probe, numbers: np.ndarray, delta: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    clean = probe.take_images(numbers).astype(np.int16)
    changed = (clean + delta).clip(0, 255).astype(np.uint8)
    return {int(number): (one, one - was) for number, one, was in zip(numbers, changed, clean, strict=True)}
