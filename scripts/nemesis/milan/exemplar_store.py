"""exemplars.zarr: exemplars on disk, each different picture once."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nemesis.errors import InputError
from nemesis.milan.exemplars import Exemplars, LazyArray, Normalisation
from nemesis.stores import Layout, add_array, blocks, open_store, read, save_array, take, write_store

MASK_CHUNK = 2**24  # bytes
PICTURE_CHUNK = 2**21
TOGETHER = 8  # chunks of pictures that are read and written at once: hardly an image is decoded twice
DIMS = {
    "unit": (("row",), "number"),
    "ids": (("row", "exemplar"), "image number in the probe"),
    "activations": (("row", "exemplar"), "activation"),
    "levels": (("row",), "activation"),
    "picture": (("row", "exemplar"), "index into pictures"),
}


def write_exemplars(path, exemplars: Exemplars, config_hash: str = "", inputs=(), **attrs):
    """Write an exemplars.zarr; `attrs` are stored beside, such as the quantile of the levels.

    Pictures and masks pass through memory by the chunk. Pictures of equal bytes are stored once.
    """
    with write_store(path, config_hash, inputs, columns=list(exemplars.columns), **attrs) as group:
        for name, values in exemplars.columns.items():
            save_array(group, name, values, ("row",), "number" if values.dtype.kind in "iu" else "1")
        with ThreadPoolExecutor(1) as beside:
            place = beside.submit(_write_pictures, group, exemplars)
            _write_masks(group, exemplars.masks)
        picture = place.result()[exemplars.picture].astype(np.int32)
        for name, (dims, units) in DIMS.items():
            values = picture if name == "picture" else getattr(exemplars, name)
            save_array(group, name, values, dims, units)


def _write_masks(group, masks: LazyArray):
    rows, *shape = masks.shape
    chunk = max(1, min(rows, MASK_CHUNK // int(np.prod(shape))))
    dims = ("row", "exemplar", "channel", "y", "x")
    stored = add_array(group, "masks", masks.shape, bool, Layout(dims, "in the mask", (chunk, *shape)))
    for first, last in blocks(rows, chunk):
        stored[first:last] = masks[first:last]


def _write_pictures(group, exemplars: Exemplars) -> np.ndarray:
    """Store the pictures (M, 3, S, S) without those that are there already; returns where each one is, (M,)."""
    pictures = exemplars.pictures
    shape = pictures.shape[1:]
    chunk = max(1, min(len(pictures), PICTURE_CHUNK // int(np.prod(shape))))
    dims = ("picture", "channel", "y", "x")
    stored = add_array(group, "pictures", pictures.shape, np.uint8, Layout(dims, "0 to 255, RGB", (chunk, *shape)))
    if len(np.unique(exemplars.ids)) == len(pictures):  # each of another image
        for first, last in blocks(len(pictures), TOGETHER * chunk):
            stored[first:last] = pictures[first:last]
        return np.arange(len(pictures))
    place, count = np.zeros(len(pictures), np.int64), 0
    waiting = np.empty((0, *shape), np.uint8)
    for fresh in _without_repeats(pictures, chunk, place):
        waiting = np.concatenate([waiting, fresh])
        if len(waiting) >= chunk:
            stored[count : count + chunk] = waiting[:chunk]
            count, waiting = count + chunk, waiting[chunk:]
    stored.resize((count + len(waiting), *shape))
    if len(waiting):
        stored[count:] = waiting
    return place


def _without_repeats(pictures: LazyArray, chunk: int, place: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pictures that are new, chunk by chunk, and note in `place` (M,) which one each picture is."""
    number_of: dict[bytes, int] = {}
    for first, last in blocks(len(pictures), chunk):
        part, known = pictures[first:last], len(number_of)
        keys = [hashlib.sha256(picture).digest() for picture in part]
        place[first:last] = [number_of.setdefault(key, len(number_of)) for key in keys]
        new, where = np.unique(place[first:last], return_index=True)
        yield part[where[new >= known]]


def open_exemplars(path) -> Exemplars:
    """Open an exemplars.zarr; pictures and masks are read when they are asked for.

    Raises InputError when it is missing, damaged or something else.
    """
    store = open_store(path)
    for name in (*DIMS, *store.attrs.get("columns", ["columns"]), "pictures", "masks"):
        if name not in store:
            raise InputError(f"{path}: no exemplars (it lacks '{name}'); delete the folder {path} and run again")
    small = {name: read(store[name]) for name in DIMS}
    columns = {name: read(store[name]) for name in store.attrs["columns"]}
    pictures, masks = (_lazy(store[name]) for name in ("pictures", "masks"))
    return Exemplars(columns=columns, pictures=pictures, masks=masks, **small)


def _lazy(array) -> LazyArray:
    return LazyArray(tuple(array.shape), array.dtype, lambda rows: take(array, rows))


def read_normalisation(card_path) -> Normalisation:
    """Mean and std of a model's input, from its card.json."""
    card = json.loads(Path(card_path).read_text(encoding="utf-8"))
    return card["mean"], card["std"]
