"""Exemplars: the images that fire a unit most, and where in them it fires (Hernandez et al., ICLR 2022).

Everything is found from stored activation maps; no network runs. Pictures and masks are made when they
are read, so that only small arrays are held: maps (R, k, h, w) and numbers.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from nemesis.errors import InputError
from nemesis.milan.peaks import Peaks, find_peaks, join_peaks, read_groups
from nemesis.stores import blocks

MASK_BYTES = 2**20  # upsampled maps held at once
Load = Callable[[np.ndarray], np.ndarray]  # image numbers (n,) -> uint8 (n, 3, H, W), or float in [0, 1]
Normalisation = tuple[Sequence[float], Sequence[float]]  # mean and std of each channel, for images in [0, 1]
STREAM = 0x6D696C61


@dataclass(frozen=True)
class LazyArray:
    """An array whose entries are made when they are read; `make(rows)` gives those of numbers `rows` (n,).

    Indexed by a number, a slice or numbers along its first axis.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    make: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        numbers = np.arange(len(self))[rows]
        found = self.make(np.atleast_1d(numbers))
        return found if np.ndim(numbers) else found[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Exemplars:
    """R rows, one per (unit, setting), of k exemplars of S x S px each.

    unit: (R,) int32; columns: further (R,) arrays by name, e.g. fraction, seed. ids: uint32 (R, k), image
    numbers, highest activation first; activations: float32 (R, k), the image's highest; levels: float32
    (R,), above which the upsampled map is in the mask. picture: int32 (R, k), index into pictures,
    uint8 (M, 3, S, S); masks: bool (R, k, 1, S, S). The last two are indexed by row, as arrays.
    """

    unit: np.ndarray
    columns: Mapping[str, np.ndarray]
    ids: np.ndarray
    activations: np.ndarray
    levels: np.ndarray
    picture: np.ndarray
    pictures: LazyArray
    masks: LazyArray

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def k(self) -> int:
        return self.ids.shape[1]

    @property
    def size(self) -> int:
        """Side of pictures and masks in px."""
        return self.pictures.shape[-1]


@dataclass(frozen=True)
class ExemplarSettings:
    """How exemplars are taken, of every unit alike.

    k: exemplars per unit. quantile: of all the unit's activations, the level of its masks. size: S in px.
    normalisation: truncate the pictures' bytes as the published code does, see to_bytes.
    """

    k: int
    quantile: float
    size: int
    normalisation: Normalisation | None = None


@dataclass(frozen=True)
class Changed:
    """Unit `unit` on a probe whose images `images` (P,) now give the maps `maps` (P, h, w) and look like
    `load(numbers)`, which is asked for some of them only."""

    unit: int
    images: np.ndarray
    maps: np.ndarray
    load: Load


def collect_exemplars(
    maps,
    images: Load,
    units,
    settings: ExemplarSettings,
    weights: np.ndarray | None = None,
    columns: Mapping | None = None,
) -> Exemplars:
    """Exemplars of `units` (numbers) on one probe, a row per unit in the given order.

    maps: a map source (see dissection.thresholds). images: loads the probe's pictures, clean or corrupted.
    weights: (N,), each image is counted so many times, see find_peaks. columns: name -> value or (R,) values.
    Raises InputError when k is larger than the probe.
    """
    units = np.asarray(units, np.int64)
    k, quantile = settings.k, settings.quantile
    found = join_peaks([find_peaks(values, k, quantile, weights) for _, values in read_groups(maps, units)], k)
    return _lay_out(units, columns, found, [images], np.zeros(found.ids.shape, np.int64), settings)


def change_exemplars(
    maps,
    changes: Sequence[Changed],
    images: Load,
    settings: ExemplarSettings,
    columns: Mapping | None = None,
) -> Exemplars:
    """Exemplars of units each of which has a corrupted probe of its own, a row per change.

    maps: the clean map source, `images` loads clean pictures; each unit's clean maps are read once. The
    result is that of collect_exemplars on the whole corrupted probe. Other arguments as there.
    """
    found: list[Peaks | None] = [None] * len(changes)
    wanted = np.unique(np.array([change.unit for change in changes], np.int64))
    for units, values in read_groups(maps, wanted):
        base = dict(zip(units.tolist(), values, strict=True))  # unit: (N, h, w)
        for row, change in enumerate(changes):
            if change.unit in base:
                changed = base[change.unit].copy()
                changed[change.images] = change.maps
                found[row] = find_peaks(changed[None], settings.k, settings.quantile)
    peaks = join_peaks(found, settings.k)
    loads, number_of = [images], {}
    source = np.zeros(peaks.ids.shape, np.int64)
    for row, change in enumerate(changes):
        if id(change.load) not in number_of:
            number_of[id(change.load)] = len(loads)
            loads.append(change.load)
        source[row, np.isin(peaks.ids[row], change.images)] = number_of[id(change.load)]
    unit = np.array([change.unit for change in changes], np.int64)
    return _lay_out(unit, columns, peaks, loads, source, settings)


def join_exemplars(parts: Sequence[Exemplars]) -> Exemplars:
    """The rows of several parts, one after the other; they have the same k, size and columns."""
    starts = np.cumsum([0, *(len(part.pictures) for part in parts[:-1])])
    picture = [part.picture + start for part, start in zip(parts, starts, strict=True)]

    def stack(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    return Exemplars(
        stack("unit"),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
        stack("ids"),
        stack("activations"),
        stack("levels"),
        np.concatenate(picture).astype(np.int32),
        _join_arrays([part.pictures for part in parts]),
        _join_arrays([part.masks for part in parts]),
    )


def exemplar_masks(maps: np.ndarray, levels: np.ndarray, size: int) -> np.ndarray:
    """Where maps (P, h, w), upsampled to size x size px, strictly exceed levels (P,): bool (P, S, S).

    Bilinear with half-pixel centres, as if each map had a frame of zeros (see framed_matrix).
    """
    rows, columns = (framed_matrix(cells, size) for cells in maps.shape[1:])
    levels = levels.astype(np.float32)[:, None, None]
    masks = np.empty((len(maps), size, size), bool)
    for first, last in blocks(len(maps), max(1, MASK_BYTES // (4 * size * size))):
        across = maps[first:last].astype(np.float32) @ columns.T  # (B, h, S)
        np.greater(rows @ across, levels[first:last], out=masks[first:last])
    return masks


@lru_cache(maxsize=64)
def framed_matrix(cells: int, pixels: int) -> np.ndarray:
    """Weights float32 (pixels, cells) of the published upsampling along an axis.

    Pixel p lies at (p + 0.5) * cells / pixels - 0.5. Beyond the outer cells' centres values fade towards a
    frame of zeros; a single cell does not fade.
    """
    if cells == 1:
        return np.ones((pixels, 1), np.float32)
    position = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
    distance = np.abs(position[:, None] - np.arange(cells))
    matrix = np.maximum(1 - distance, 0).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def resize_pictures(pictures: np.ndarray, size: int) -> np.ndarray:
    """Pictures (n, 3, H, W) at size x size px by the nearest pixel, as torch's `nearest` picks it."""
    for axis in (2, 3):
        length = pictures.shape[axis]
        if length != size:
            place = np.arange(size, dtype=np.float32) * np.float32(length / size)
            pictures = pictures.take(np.minimum(place.astype(np.int64), length - 1), axis=axis)
    return pictures


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Images as uint8; float ones, in [0, 1], are rounded."""
    return images if images.dtype == np.uint8 else np.rint(images * np.float32(255)).astype(np.uint8)


def to_bytes(images: np.ndarray, mean, std) -> np.ndarray:
    """Normalised images (n, 3, H, W) as the published code turns them into uint8: x * (std * 255) + mean * 255,
    cut to [0, 255] and truncated, which takes one off 3 to 4% of the values."""
    mean, std = ((np.array(values) * 255).astype(np.float32)[:, None, None] for values in (mean, std))
    restored = images.astype(np.float32) * std + mean
    return np.clip(restored, 0, 255).astype(np.uint8)


def choose_units(setting, thresholds: pd.DataFrame, seed: int, layer: str) -> np.ndarray:
    """Unit numbers, ascending: `all` that ever fire, so many of these drawn with the seed, or a list.

    `thresholds` is the layer's thresholds.csv (unit, dead). Fewer units than asked for are all taken.
    Raises InputError when a listed unit does not exist or is dead, and when every unit is dead.
    """
    alive = thresholds.loc[~thresholds["dead"].astype(bool), "unit"].to_numpy()
    if not len(alive):
        raise InputError(f"milan: every unit of layer {layer} is dead; leave the layer out of milan.layers")
    return draw_units(setting, alive, "milan.units", seed, layer)


def draw_units(setting, known: np.ndarray, key: str, seed: int, layer: str) -> np.ndarray:
    """Of the units `known` (ascending): `all`, so many drawn with the seed, or a list; `key` is the config's."""
    if isinstance(setting, list):
        for unit in setting:
            if unit not in known:
                raise InputError(
                    f"{key}: layer {layer}, unit {unit} does not exist, is dead or is not described;"
                    f" there are {len(known)} to choose from: {_shorten(known)}"
                )
        return np.sort(np.array(setting))
    if setting == "all":
        return known
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM, zlib.crc32(layer.encode())]))
    return np.sort(rng.permutation(known)[:setting])


def _lay_out(units, columns, peaks: Peaks, loads, source: np.ndarray, settings: ExemplarSettings) -> Exemplars:
    """Exemplars of peaks whose pictures come from loads[source]; each different (source, image) is a picture."""
    size = settings.size
    shape = (*peaks.ids.shape, 1, size, size)
    code = source * (int(peaks.ids.max(initial=0)) + 1) + peaks.ids
    _, first, picture = np.unique(code, return_index=True, return_inverse=True)
    load_of, number = source.ravel()[first], peaks.ids.ravel()[first]  # (M,) each

    def make_pictures(rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), 3, size, size), np.uint8)
        for index in np.unique(load_of[rows]):
            mine = load_of[rows] == index
            found[mine] = _convert(loads[index](number[rows[mine]]), settings)
        return found

    def make_masks(rows: np.ndarray) -> np.ndarray:
        maps = peaks.maps[rows].reshape(-1, *peaks.maps.shape[2:])
        return exemplar_masks(maps, np.repeat(peaks.levels[rows], shape[1]), size).reshape(-1, *shape[1:])

    return Exemplars(
        np.asarray(units, np.int32),
        {name: np.broadcast_to(values, len(units)) for name, values in (columns or {}).items()},
        peaks.ids.astype(np.uint32),
        peaks.activations,
        peaks.levels,
        picture.reshape(peaks.ids.shape).astype(np.int32),
        LazyArray((len(first), 3, size, size), np.dtype(np.uint8), make_pictures),
        LazyArray(shape, np.dtype(bool), make_masks),
    )


def _convert(pictures: np.ndarray, settings: ExemplarSettings) -> np.ndarray:
    """Loaded pictures as uint8 (n, 3, S, S)."""
    pictures = as_bytes(pictures)
    if settings.normalisation is not None:
        mean, std = (np.array(values, np.float32)[:, None, None] for values in settings.normalisation)
        pictures = to_bytes((pictures / np.float32(255) - mean) / std, *settings.normalisation)
    return resize_pictures(pictures, settings.size)


def _join_arrays(parts: Sequence[LazyArray]) -> LazyArray:
    stops = np.cumsum([len(part) for part in parts])
    shape, dtype = (int(stops[-1]), *parts[0].shape[1:]), parts[0].dtype

    def make(rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), *shape[1:]), dtype)
        part_of = np.searchsorted(stops, rows, side="right")
        for index in np.unique(part_of):
            mine = part_of == index
            found[mine] = parts[index][rows[mine] - (stops[index] - len(parts[index]))]
        return found

    return LazyArray(shape, dtype, make)


def _shorten(numbers: np.ndarray, most: int = 20) -> str:
    return ", ".join(map(str, numbers[:most])) + (" ..." if len(numbers) > most else "")
