"""What an attack did to its units: maps of the poisoned images, beside their differences.

They are stored as activations.zarr beside a poison.zarr, in the order of its rows, and read without a deep learning
library.
"""

import contextlib
from dataclasses import dataclass

import numpy as np

from nemesis.perturb.poison import ALL, Poison
from nemesis.stores import CHUNK_BYTES, Layout, add_array, blocks, read, save_array, write_store


@dataclass(frozen=True)
class Poisoned:
    """What an attack did to one unit's images: numbers (R,), differences (R, 3, H, W) in 1/255 and maps (R, h, w)."""

    image: np.ndarray
    delta: np.ndarray
    maps: np.ndarray

    def place(self, number: int) -> int | None:
        """Row of an image; None when it was left clean."""
        found = np.flatnonzero(self.image == number)
        return int(found[0]) if len(found) else None


def read_poisoned(poison, shown, task: int) -> Poisoned:
    """The rows of a task from an opened poison.zarr and the activations.zarr beside it (both zarr groups)."""
    of_row = read(poison["task"])
    rows = np.flatnonzero((of_row == task) | (of_row == ALL))
    span = slice(int(rows[0]), int(rows[-1]) + 1)  # rows of a task are consecutive
    maps = read(shown["maps"], span)
    return Poisoned(read(poison["image"], span), read(poison["delta"], span), maps[:, task] if maps.ndim == 4 else maps)


@contextlib.contextmanager
def keep_row_maps(path, poison: Poison, clean, inputs=()):
    """Yield keep(first row, maps), which stores maps of consecutive poisoned images, in any number of calls.

    Maps, of the cells and type of the layer's `clean` ones, are (B, h, w), of each row's own unit, or (B, T, h, w)
    of all attacked units for a shared attack.
    """
    dims = ("row", "task", "y", "x") if poison.shared else ("row", "y", "x")
    shape = (len(poison.image), *((len(poison.tasks),) if poison.shared else ()), *clean.shape[2:])
    rows = max(1, CHUNK_BYTES // (int(np.prod(shape[1:])) * clean.dtype.itemsize))
    with write_store(path, "", inputs) as group:
        save_array(group, "image", poison.image, ("row",), "number in the probe")
        save_array(group, "unit", read(poison.store["unit"]), ("row",), "number; -1 = all tasks")
        stored = add_array(
            group, "maps", shape, clean.dtype, Layout(dims, "activation", (max(1, min(rows, shape[0])), *shape[1:]))
        )

        def keep(first: int, maps: np.ndarray):
            for start, stop in blocks(len(maps), rows):
                stored[first + start : first + stop] = maps[start:stop]

        yield keep
