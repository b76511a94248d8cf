"""poison.zarr: what a designed corruption changed, and the images as they are read back."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nemesis.corruption.plan import ALL, NO_ROWS, Plan
from nemesis.corruption.poison import round_inside
from nemesis.corruption.targets import Task
from nemesis.errors import InputError
from nemesis.perturb.storage import store_image
from nemesis.stores import CHUNK_BYTES, add_array, blocks, open_store, read, save_array, write_store
from nemesis.threads import work_behind

NEEDS_RESIDUE = ("float", "published")
RECORDED = ("nemesis_version", "config_hash", "created_from", "arrays")


@dataclass(frozen=True)
class Poison:
    """An opened poison.zarr with P poisoned images of T tasks; row p belongs to tasks[task[p]] (ALL: to each)."""

    store: object
    tasks: list[Task]
    task: np.ndarray
    image: np.ndarray
    rank: np.ndarray

    @property
    def attrs(self) -> dict:
        return dict(self.store.attrs)

    def rows_of(self, task: int) -> np.ndarray:
        """Rows of a task, ascending; they are consecutive."""
        return np.flatnonzero((self.task == task) | (self.task == ALL))

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


def write_poison(
    path,
    plan: Plan,
    size: tuple[int, int],
    eps: float,
    attacked: Iterator,
    residue: bool,
    chunk: int,
    config_hash: str = "",
    inputs=(),
    **attrs,
):
    """Write a poison.zarr from what `attack_rows` yields.

    `delta` (P, 3, H, W) int8 (int16 above eps 127) is the rounded difference in 1/255; `residue`
    (float16, on request) is what rounding took off, for the storages that need it.
    """
    rows, dims = len(plan), ("row", "channel", "y", "x")
    names = ("unit", "source", "target", "target_unit")
    values = {name: np.array([getattr(task, name) for task in plan.tasks], np.int32) for name in names}
    with write_store(path, config_hash, inputs, eps=eps, **attrs) as group:
        for name in names:
            of_row = np.where(plan.task == ALL, -1, values[name][plan.task] if rows else NO_ROWS).astype(np.int32)
            save_array(group, name, of_row, ("row",), "number; -1 = none, or all tasks")
            save_array(group, f"task_{name}", values[name], ("task",), "number; -1 = none")
        for name in ("task", "image", "rank"):
            save_array(group, name, getattr(plan, name).astype(np.int32), ("row",), "number")
        shape, chunks = (rows, 3, *size), (max(1, min(chunk, rows)), 3, *size)
        kind = "int8" if eps < 128 else "int16"
        delta = add_array(group, "delta", shape, kind, dims, "1/255", chunks)
        rest = add_array(group, "residue", shape, "float16", dims, "1/255", chunks) if residue else None
        with work_behind() as do:
            for span, clean, images in attacked:
                found = round_inside(clean, images, np.full(len(images), eps))
                do(delta.__setitem__, span, found.astype(kind))
                if rest is not None:
                    exact = images.cpu().numpy() * np.float32(255)
                    do(rest.__setitem__, span, (exact - clean - found).astype(np.float16))


def open_poison(path) -> Poison:
    """Open a poison.zarr; raises InputError when it is missing or damaged."""
    store = open_store(path)
    task, image, rank = (read(store[name]) for name in ("task", "image", "rank"))
    parts = [read(store[f"task_{name}"]).tolist() for name in ("unit", "source", "target", "target_unit")]
    return Poison(store, [Task(*values) for values in zip(*parts, strict=True)], task, image, rank)


def join_poison(shards: list, path):
    """Join the poison.zarr of consecutive shards of tasks into one."""
    parts = [open_store(shard) for shard in shards]
    attrs = {name: value for name, value in parts[0].attrs.items() if name not in RECORDED}
    inputs = [shard / "zarr.json" for shard in shards]
    with write_store(path, parts[0].attrs["config_hash"], inputs, **attrs) as group:
        for name, first in sorted(parts[0].arrays()):
            arrays = [part[name] for part in parts]
            shape = (sum(array.shape[0] for array in arrays), *first.shape[1:])
            dims, units = first.attrs["dimensions"], first.attrs["units"]
            chunk = max(1, min(shape[0], max(array.chunks[0] for array in arrays)))
            joined = add_array(group, name, shape, first.dtype, dims, units, (chunk, *first.shape[1:]))
            start, tasks = 0, 0
            for part, array in zip(parts, arrays, strict=True):
                shift = tasks if name == "task" else 0
                for a, b in blocks(array.shape[0], array.chunks[0]):
                    values = read(array, slice(a, b))
                    joined[start + a : start + b] = np.where(values == ALL, ALL, values + shift) if shift else values
                start, tasks = start + array.shape[0], tasks + part["task_unit"].shape[0]


@contextlib.contextmanager
def write_row_maps(path, poison: Poison, clean, inputs=()):
    """Yield keep(first row, maps), which stores maps of consecutive poisoned images, in any number of calls.

    Maps, of the cells and type of the layer's `clean` ones, are (B, h, w), of each row's own unit, or (B, T, h, w)
    of all attacked units for a shared attack.
    """
    shared = bool((poison.task == ALL).any())
    dims = ("row", "task", "y", "x") if shared else ("row", "y", "x")
    shape = (len(poison.image), *((len(poison.tasks),) if shared else ()), *clean.shape[2:])
    rows = max(1, CHUNK_BYTES // (int(np.prod(shape[1:])) * clean.dtype.itemsize))
    with write_store(path, "", inputs) as group:
        save_array(group, "image", poison.image, ("row",), "number in the probe")
        save_array(group, "unit", read(poison.store["unit"]), ("row",), "number; -1 = all tasks")
        stored = add_array(
            group, "maps", shape, clean.dtype, dims, "activation", (max(1, min(rows, shape[0])), *shape[1:])
        )

        def keep(first: int, maps: np.ndarray):
            for start, stop in blocks(len(maps), rows):
                stored[first + start : first + stop] = maps[start:stop]

        yield keep
