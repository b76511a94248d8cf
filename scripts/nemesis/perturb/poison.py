"""poison.zarr: how changed images differ from the clean ones, and the images as they are read back.

A row is a changed image. It belongs to a task, a line of a table that the caller defines (which unit was attacked to
what end, which pair of images was meant, ...), or to all tasks at once. Needs no deep learning library.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from nemesis.errors import InputError
from nemesis.perturb.storage import store_image
from nemesis.stores import (
    UNKNOWN,
    Layout,
    Origin,
    add_array,
    blocks,
    open_store,
    read,
    save_array,
    store_folder,
    write_store,
)
from nemesis.threads import work_behind

ALL = -1  # task of a row that is changed for every task at once
NEEDS_RESIDUE = ("float", "published")  # storages
DELTA_BYTES = 2**22  # of a chunk of differences
RECORDED = ("nemesis_version", "config_hash", "created_from", "arrays")


class ChangedRows(Protocol):
    """R rows of T tasks, those of a task consecutive: image number, number of its task (or ALL) and rank, (R,) each.

    `rank` counts a task's images from the most influential, 0. `table` has the columns (T,) that define the tasks.
    """

    image: np.ndarray
    task: np.ndarray
    rank: np.ndarray

    @property
    def table(self) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True)
class Differences:
    """Differences to clean images, none larger than `eps`, in 1/255.

    parts: (rows, delta int16 (R', 3, H, W), residue float16 alike or None) until all rows are done; the residue is what
    rounding took off, and is there if `residue` says so.
    """

    eps: float
    residue: bool
    parts: Iterable[tuple[slice, np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class Poison:
    """An opened poison.zarr with P changed images of T tasks; row p belongs to tasks[task[p]] (ALL: to each)."""

    store: object
    tasks: list
    task: np.ndarray
    image: np.ndarray
    rank: np.ndarray

    @property
    def attrs(self) -> dict:
        return dict(self.store.attrs)

    @cached_property
    def shared(self) -> bool:
        """Do the rows belong to all tasks at once?"""
        return bool((self.task == ALL).any())

    def rows_of(self, task: int) -> np.ndarray:
        """Rows of a task, ascending; they are consecutive."""
        return np.flatnonzero((self.task == task) | (self.task == ALL))

    def span_of(self, tasks: Iterable[int]) -> slice:
        """From the first to the last row of some tasks."""
        rows = np.concatenate([self.rows_of(task) for task in tasks])
        return slice(int(rows.min()), int(rows.max()) + 1)

    def attacked(self, rows: slice, clean: np.ndarray, exact: bool) -> np.ndarray:
        """Attacked images float32 (B, 3, H, W) in [0, 1]: as the attack left them, or rounded to 8 bits."""
        values = clean.astype(np.float32) + read(self.store["delta"], rows)
        if exact:
            if "residue" not in self.store:
                raise InputError(
                    f"{self.store.store_path}: holds no residue; name the storage in the config and run again"
                )
            values += read(self.store["residue"], rows)
        return values / np.float32(255)

    def stored(self, rows: slice, clean: np.ndarray, storage: str) -> np.ndarray:
        """What is read back after storing, uint8 (B, 3, H, W) (float32 for `float`)."""
        if storage == "lossless":  # the differences are those of the rounded images
            return clean + read(self.store["delta"], rows).astype(np.uint8)
        images = self.attacked(rows, clean, storage in NEEDS_RESIDUE)
        return np.stack([store_image(image, storage) for image in images])


def budget_images(fraction: float, count: int) -> int:
    """Images that a budget allows: the largest whole number of at most fraction * count."""
    return int(fraction * count + 1e-9)


def write_poison(
    path, rows: ChangedRows, differences: Differences, size: tuple[int, int], origin: Origin = UNKNOWN, **attrs
):
    """Write a poison.zarr of images of `size` (H, W).

    `delta` (P, 3, H, W) int8 (int16 above eps 127) is the rounded difference in 1/255, `residue` float16 what rounding
    took off. Each column of the tasks' table is there by task (task_...) and by row.
    """
    count, eps, dims = len(rows.image), differences.eps, ("row", "channel", "y", "x")
    with write_store(path, origin.config_hash, origin.inputs, eps=eps, **attrs) as group:
        for name, values in rows.table.items():
            of_row = np.full(count, -1, values.dtype)
            single = rows.task != ALL
            of_row[single] = values[rows.task[single]]
            save_array(group, name, of_row, ("row",), "number; -1 = none, or all tasks")
            save_array(group, f"task_{name}", values, ("task",), "number; -1 = none")
        for name in ("task", "image", "rank"):
            save_array(group, name, getattr(rows, name).astype(np.int32), ("row",), "number")
        chunk = max(1, DELTA_BYTES // (3 * int(np.prod(size))))
        shape, chunks = (count, 3, *size), (max(1, min(chunk, count)), 3, *size)
        kind = "int8" if eps < 128 else "int16"
        delta = add_array(group, "delta", shape, kind, Layout(dims, "1/255", chunks))
        rest = (
            add_array(group, "residue", shape, "float16", Layout(dims, "1/255", chunks))
            if differences.residue
            else None
        )
        with work_behind() as do:
            for span, found, exact in differences.parts:
                do(delta.__setitem__, span, found.astype(kind))
                if rest is not None:
                    do(rest.__setitem__, span, exact)


def open_poison(path, make: Callable = dict) -> Poison:
    """Open a poison.zarr; raises InputError when it is missing or damaged.

    make: makes a task of its columns' values, given by name; a dict without it.
    """
    store = open_store(path)
    task, image, rank = (read(store[name]) for name in ("task", "image", "rank"))
    columns = {name.removeprefix("task_"): read(store[name]).tolist() for name in _table_names(store)}
    tasks = [make(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    return Poison(store, tasks, task, image, rank)


def needs_residue(storages: Iterable[str]) -> bool:
    """Is what rounding took off needed for one of these storages?"""
    return bool(set(NEEDS_RESIDUE) & set(storages))


def join_poison(shards: Iterable, path):
    """Join the poison.zarr of consecutive shards of tasks into one."""
    shards = list(shards)
    parts = [open_store(shard) for shard in shards]
    attrs = {name: value for name, value in parts[0].attrs.items() if name not in RECORDED}
    inputs = [store_folder(shard) / "zarr.json" for shard in shards]
    with write_store(path, parts[0].attrs["config_hash"], inputs, **attrs) as group:
        for name, first in sorted(parts[0].arrays()):
            arrays = [part[name] for part in parts]
            shape = (sum(array.shape[0] for array in arrays), *first.shape[1:])
            dims, units = first.attrs["dimensions"], first.attrs["units"]
            chunk = max(1, min(shape[0], max(array.chunks[0] for array in arrays)))
            joined = add_array(group, name, shape, first.dtype, Layout(dims, units, (chunk, *first.shape[1:])))
            start, tasks = 0, 0
            for part, array in zip(parts, arrays, strict=True):
                shift = tasks if name == "task" else 0
                for a, b in blocks(array.shape[0], array.chunks[0]):
                    values = read(array, slice(a, b))
                    joined[start + a : start + b] = np.where(values == ALL, ALL, values + shift) if shift else values
                start, tasks = start + array.shape[0], tasks + part[_table_names(part)[0]].shape[0]


def _table_names(store) -> list[str]:
    """Arrays of a store that are columns of the tasks' table."""
    return sorted(name for name in store.array_keys() if name.startswith("task_"))
