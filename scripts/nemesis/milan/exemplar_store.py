"""exemplars.zarr: exemplars on disk, each different picture once."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nemesis.errors import InputError
from nemesis.milan.exemplars import Exemplars, LazyArray, Normalisation
from nemesis.stores import add_array, blocks, open_store, read, save_array, take, write_store

MASK_CHUNK = 2**22  # bytes
PICTURE_CHUNK = 2**21
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
    rows, k, _, height, width = exemplars.masks.shape
    with write_store(path, config_hash, inputs, columns=list(exemplars.columns), **attrs) as group:
        for name, values in exemplars.columns.items():
            save_array(group, name, values, ("row",), name)
        chunk = max(1, min(rows, MASK_CHUNK // (k * height * width)))
        dims = ("row", "exemplar", "channel", "y", "x")
        masks = add_array(
            group, "masks", exemplars.masks.shape, bool, dims, "in the mask", (chunk, k, 1, height, width)
        )
        for first, last in blocks(rows, chunk):
            masks[first:last] = exemplars.masks[first:last]
        place = _write_pictures(group, exemplars.pictures)
        picture = place[exemplars.picture].astype(np.int32)
        for name, (dims, units) in DIMS.items():
            values = picture if name == "picture" else getattr(exemplars, name)
            save_array(group, name, values, dims, units)


def _write_pictures(group, pictures: LazyArray) -> np.ndarray:
    """Store pictures (M, 3, S, S) without those that are there already; returns where each one is, (M,)."""
    chunk = max(1, min(len(pictures), PICTURE_CHUNK // int(np.prod(pictures.shape[1:]))))
    dims = ("picture", "channel", "y", "x")
    stored = add_array(group, "pictures", pictures.shape, np.uint8, dims, "0 to 255, RGB", (chunk, *pictures.shape[1:]))
    place, count = np.zeros(len(pictures), np.int64), 0
    waiting = np.empty((0, *pictures.shape[1:]), np.uint8)
    for fresh in _without_repeats(pictures, chunk, place):
        waiting = np.concatenate([waiting, fresh]) if len(waiting) else fresh
        while len(waiting) >= chunk:
            stored[count : count + chunk] = waiting[:chunk]
            count, waiting = count + chunk, waiting[chunk:]
    if count + len(waiting) < len(pictures):
        stored.resize((count + len(waiting), *pictures.shape[1:]))
    if len(waiting):
        stored[count:] = waiting
    return place


def _without_repeats(pictures: LazyArray, chunk: int, place: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pictures that are new, chunk by chunk, and note in `place` (M,) which one each picture is."""
    number_of: dict[bytes, int] = {}
    for first, last in blocks(len(pictures), chunk):
        part, known = pictures[first:last], len(number_of)
        keys = [hashlib.blake2b(picture, digest_size=16).digest() for picture in part]
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
