"""The images of a probe that excite a unit most, and the unit's maps on them."""

from dataclasses import dataclass, field

import numpy as np

from nemesis.dissection.stored import StoredMaps
from nemesis.stores import open_store, read, save_array, write_store

TOP = 5  # images of a unit


@dataclass(frozen=True)
class Tops:
    """The T strongest images of U units under S settings.

    unit: (U,); columns: (S,) arrays that name the settings; ids: uint32 (S, U, T), image numbers, highest
    activation first; threshold: float64 (S, U); maps: (S, U, T, h, w), before upsampling.
    """

    unit: np.ndarray
    columns: dict[str, np.ndarray]
    ids: np.ndarray
    threshold: np.ndarray
    maps: np.ndarray

    def find(self, **setting) -> int:
        """Number of the setting whose columns have these values."""
        found = np.ones(len(self.ids), bool)
        for name, value in setting.items():
            found &= np.isclose(self.columns[name].astype(float), float(value))
        return int(np.flatnonzero(found)[0])


def rank_images(highest: np.ndarray, count: int = TOP) -> np.ndarray:
    """Numbers of the `count` images with the highest activation (..., N), highest first; ties by number."""
    return np.argsort(-highest.astype(np.float32), axis=-1, kind="stable")[..., :count]


def find_tops(clean: StoredMaps, units, threshold: np.ndarray) -> Tops:
    """The strongest images of some units of the clean probe; `threshold` is (U,) of all units of the layer."""
    return find_mixed_tops([CleanMaps(clean)], units, threshold[None], {})


@dataclass(frozen=True)
class CleanMaps:
    """Stored maps as a mixed source in which nothing is corrupted (see corruption.mixed)."""

    clean: StoredMaps
    corrupted: None = None
    chosen: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


def find_mixed_tops(runs, units, threshold: np.ndarray, columns: dict) -> Tops:
    """The strongest images of some units under each of S runs: MixedMaps that share their clean maps.

    `threshold` is (S, all units of the layer). Each store is read once.
    """
    units = np.asarray(units, np.int64)
    clean = runs[0].clean
    clean_max = read(clean.max)[units]
    ids = np.stack([rank_images(_highest(run, clean_max, units)) for run in runs])
    maps = np.empty((*ids.shape, *clean.shape[2:]), clean.dtype)
    of_unit = np.broadcast_to(units[None, :, None], ids.shape)
    changed = np.stack([np.isin(part, run.chosen) for part, run in zip(ids, runs, strict=True)])
    maps[~changed] = clean.pick(of_unit[~changed], ids[~changed])
    for store in {id(run.corrupted): run.corrupted for run in runs if run.corrupted is not None}.values():
        same = [number for number, run in enumerate(runs) if run.corrupted is store]
        rows = [runs[n].rows[np.searchsorted(runs[n].chosen, ids[n][changed[n]])] for n in same]
        picked = store.pick(np.concatenate([of_unit[n][changed[n]] for n in same]), np.concatenate(rows))
        for number, part in zip(same, np.split(picked, np.cumsum([len(row) for row in rows])[:-1]), strict=True):
            maps[number][changed[number]] = part
    return Tops(units, columns, ids.astype(np.uint32), threshold[:, units], maps)


def write_tops(path, tops: Tops, config_hash: str = "", inputs=()):
    """Store tops as a zarr group."""
    with write_store(path, config_hash, inputs) as group:
        save_array(group, "unit", tops.unit, ("unit",), "number of the unit")
        for name, values in tops.columns.items():
            save_array(group, name, values, ("setting",), name)
        save_array(group, "ids", tops.ids, ("setting", "unit", "rank"), "number of the image")
        save_array(group, "threshold", tops.threshold, ("setting", "unit"), "activation")
        chunk = (1, 64, *tops.maps.shape[2:])
        save_array(group, "maps", tops.maps, ("setting", "unit", "rank", "y", "x"), "activation", chunk)


def open_tops(path) -> Tops:
    """Read what `write_tops` stored; InputError when it is missing or damaged."""
    group = open_store(path)
    arrays = {name: read(array) for name, array in group.arrays()}
    known = [arrays.pop(name) for name in ("unit", "ids", "threshold", "maps")]
    return Tops(known[0], arrays, *known[1:])


def _highest(run, clean_max: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Highest activation of each unit in each image of a run, (U, N)."""
    if not len(run.chosen):
        return clean_max
    highest = clean_max.copy()
    highest[:, run.chosen] = read(run.corrupted.max)[units][:, run.rows]
    return highest
