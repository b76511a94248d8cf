"""What an attack did to the images of one task, read without a deep learning library."""

from dataclasses import dataclass

import numpy as np

from nemesis.stores import read

SHARED = -1  # task of a row that is poisoned for every task at once


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
    """The rows of a task from an opened poison.zarr and the activations.zarr beside it (in the same order)."""
    of_row = read(poison["task"])
    rows = np.flatnonzero((of_row == task) | (of_row == SHARED))
    span = slice(int(rows[0]), int(rows[-1]) + 1)  # rows of a task are consecutive
    maps = read(shown["maps"], span)
    return Poisoned(read(poison["image"], span), read(poison["delta"], span), maps[:, task] if maps.ndim == 4 else maps)
