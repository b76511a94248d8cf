"""Regions: pixels of a label map that carry the same labels on every plane.

A label map has few of them, so what is counted by region first and by concept afterwards takes one count a
pixel instead of one a plane.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Regions:
    """Regions of B images. ids: (B, Hs, Ws), the region of each pixel; labels: of each image (R, K), R its regions."""

    ids: np.ndarray
    labels: list[np.ndarray]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the label maps."""
        return self.ids.shape[1:]


def id_type(size: tuple[int, int]) -> str:
    """The type of region numbers of label maps of `size`: there may be as many regions as pixels."""
    return "uint16" if size[0] * size[1] <= 2**16 else "uint32"


def find_regions(labels: np.ndarray) -> Regions:
    """Regions of label maps (B, K, Hs, Ws); those of an image in ascending order of their labels."""
    found = [_find_regions(planes) for planes in labels]
    ids = np.stack([ids for ids, _ in found]).astype(id_type(labels.shape[2:]))
    return Regions(ids, [table for _, table in found])


def _find_regions(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regions of one image's label planes (K, Hs, Ws): ids (Hs, Ws) and labels (R, K)."""
    ids = np.zeros(planes[0].size, np.int64)
    table = np.zeros((1, 0), planes.dtype)
    for plane in planes:
        numbers, local = np.unique(plane, return_inverse=True)
        keys, ids = np.unique(ids * len(numbers) + local.ravel(), return_inverse=True)
        table = np.column_stack([table[keys // len(numbers)], numbers[keys % len(numbers)]])
    return ids.reshape(planes.shape[1:]), table
