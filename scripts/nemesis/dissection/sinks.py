"""Where extracted maps go: into a store, or, of a streamed layer, into counts, maxima and the strongest maps.

A store of maps is a folder with a group for each layer. It is complete when it has a zarr.json of its own, which is
written last and says what the maps of all its layers were made from.
"""

import contextlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemesis import __version__
from nemesis.dissection.counts import BINS, PatternCounts
from nemesis.dissection.tops import TOP
from nemesis.errors import InputError
from nemesis.stores import CHUNK_BYTES, Layout, add_array, block_size, list_groups, open_store, save_array, write_root

RECORD_UNITS = "1/255 (mse: squared)"
COUNT_UNITS = 64  # whose counts are in one file


def clear_store(store, origin: dict) -> list[str]:
    """Make a store incomplete and remove what was not made from `origin`; the layers that stay, whole.

    `origin` has the attributes config_hash, created_from and code of a store. Without a config_hash nothing stays.
    """
    store = Path(store)
    (store / "zarr.json").unlink(missing_ok=True)
    kept = [name for name in list_groups(store) if _is_whole(store / name, origin)]
    for folder in store.glob("*/"):
        if folder.name not in kept:
            if not folder.name.startswith("."):
                logging.info("%s: the maps of layer %s do not fit any more and are removed", store, folder.name)
            shutil.rmtree(folder)
    return kept


def _is_whole(folder: Path, origin: dict) -> bool:
    """Whether a layer's group has everything and was made from `origin`, by this version."""
    with contextlib.suppress(InputError):
        attrs = open_store(folder).attrs
        wanted = {"nemesis_version": __version__, **origin}
        return bool(origin["config_hash"]) and all(attrs.get(name) == value for name, value in wanted.items())
    return False


@contextlib.contextmanager
def complete_store(store, origin: dict):
    """When the block ends well, the layers in the folder `store` are a complete store, made from `origin`."""
    store = Path(store)
    store.mkdir(parents=True, exist_ok=True)
    (store / "zarr.json").unlink(missing_ok=True)
    try:
        yield
        write_root(store, **origin)
    finally:
        with contextlib.suppress(OSError):  # where it holds nothing
            store.rmdir()


class MapSink:
    """Writes blocks of maps (U, B, h, w) and their maxima (U, B) into a zarr group.

    If `counted`, how often a unit has each float16 is counted on the way: `counts` (U, 65536), a bin a bit pattern.
    """

    def __init__(self, group, shape, dtype: str, counted: bool):
        units, count, height, width = shape
        cell = height * width * np.dtype(dtype).itemsize
        self.group, self.block = group, block_size(units * cell, count)
        chunk = max(1, min(units, CHUNK_BYTES // (self.block * cell)))
        padded = -(-units // chunk) * chunk
        dims = ("unit", "image", "y", "x")
        chunks, shards = ((size, self.block, height, width) for size in (chunk, padded))
        self.maps = add_array(group, "maps", shape, dtype, Layout(dims, "activation", chunks, shards))
        self.max = add_max(group, shape, dtype, self.block)
        self.counts = PatternCounts(units, count * height * width) if counted else None

    def add(self, start: int, maps: np.ndarray, highest: np.ndarray):
        """Write the images from number `start` on."""
        self.maps[:, start : start + maps.shape[1]] = maps
        self.max[:, start : start + maps.shape[1]] = highest
        if self.counts:
            self.counts.add(maps)

    def finish(self):
        """Store what was counted."""
        if self.counts:
            save_counts(self.group, self.counts.finish())


class CountSink:
    """Counts the maps of a streamed layer and keeps, for pictures, those of each unit's strongest images.

    Stored are (if `counted`) `counts` (U, 65536), a bin a bit pattern, `max` (U, N), and of the T strongest
    images `top_image` uint32 (U, T), `top_max` (U, T) and `top_maps` (U, T, h, w). In memory: counts (see
    PatternCounts) and T maps a unit.
    """

    def __init__(self, group, shape, dtype: str, counted: bool):
        units, count, height, width = shape
        self.group = group
        self.block = block_size(units * height * width * np.dtype(dtype).itemsize, count)
        self.max = add_max(group, shape, dtype, self.block)
        self.counts = PatternCounts(units, count * height * width) if counted else None
        self.tops = Strongest(
            np.zeros((units, 0), np.int64), np.zeros((units, 0), dtype), np.zeros((units, 0, height, width), dtype)
        )

    def add(self, start: int, maps: np.ndarray, highest: np.ndarray):
        """Count the images from number `start` on."""
        self.max[:, start : start + maps.shape[1]] = highest
        if self.counts:
            self.counts.add(maps)
        image = np.broadcast_to(np.arange(start, start + maps.shape[1]), highest.shape)
        self.tops = keep_strongest(self.tops, Strongest(image, highest, maps))

    def finish(self):
        """Store what was counted."""
        if self.counts:
            save_counts(self.group, self.counts.finish())
        save_tops(self.group, self.tops)


@dataclass(frozen=True)
class Strongest:
    """Of each of U units T images: number (U, T), highest activation (U, T) and maps (U, T, h, w)."""

    image: np.ndarray
    highest: np.ndarray
    maps: np.ndarray


def keep_strongest(known: Strongest, more: Strongest, count: int = TOP) -> Strongest:
    """The `count` strongest images of each unit among both, highest first; ties by number."""
    image, highest = (
        np.concatenate([getattr(part, name) for part in (known, more)], 1) for name in ("image", "highest")
    )
    place = np.lexsort((image, -highest.astype(np.float32)), axis=1)[:, :count]  # (U, T)
    unit, old = np.arange(len(place))[:, None], known.image.shape[1]
    if old and (place < old).all():  # as nearly always
        return known
    maps = np.empty((*place.shape, *more.maps.shape[2:]), more.maps.dtype)
    kept = place < old
    of_unit = np.broadcast_to(unit, place.shape)
    maps[kept] = known.maps[of_unit[kept], place[kept]]
    maps[~kept] = more.maps[of_unit[~kept], place[~kept] - old]
    return Strongest(image[unit, place], highest[unit, place], maps)


def save_counts(group, counts: np.ndarray):
    """Store how often each unit has each bit pattern, (U, 65536)."""
    save_array(group, "counts", counts, ("unit", "pattern"), "activations", (min(COUNT_UNITS, len(counts)), BINS))


def save_tops(group, tops: Strongest):
    """Store what a streamed layer keeps of each unit's strongest images; see CountSink."""
    save_array(group, "top_image", tops.image.astype(np.uint32), ("unit", "rank"), "position among the images")
    save_array(group, "top_max", tops.highest, ("unit", "rank"), "activation")
    save_array(group, "top_maps", tops.maps, ("unit", "rank", "y", "x"), "activation", (8, *tops.maps.shape[1:]))


def add_max(group, shape, dtype: str, block: int):
    """The array of maxima (U, N) beside maps of a shape (U, N, h, w)."""
    return add_array(group, "max", shape[:2], dtype, Layout(("unit", "image"), "activation", chunks=(shape[0], block)))


def save_images(group, numbers: np.ndarray):
    """Store which images a store is about."""
    save_array(group, "image", numbers.astype(np.uint32), ("image",), "number in the probe")


def save_record(group, record: dict[str, np.ndarray]):
    """Store what loading the images recorded, arrays (P,)."""
    for name, values in record.items():
        save_array(group, name, values, ("image",), RECORD_UNITS)
