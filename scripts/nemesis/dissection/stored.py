"""Stored activation maps; reading them needs no deep learning library."""

from dataclasses import dataclass, field

import numpy as np

from nemesis.stores import open_store, read


@dataclass(frozen=True)
class StoredMaps:
    """An opened activations.zarr: `maps` (U, P, h, w), `max` (U, P), `image` (P,)."""

    maps: object
    max: object
    image: np.ndarray
    record: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def units(self) -> int:
        return self.maps.shape[0]

    @property
    def count(self) -> int:
        return self.maps.shape[1]

    @property
    def unit_chunk(self) -> int:
        return self.maps.chunks[0]

    @property
    def block(self) -> int:
        """Images in one shard."""
        return self.maps.chunks[1]

    def sources(self, weights: np.ndarray | None = None) -> list[tuple["StoredMaps", np.ndarray]]:
        """This store and how often each of its images counts: `weights` (P,), or once."""
        return [(self, np.ones(self.count, np.int64) if weights is None else weights)]

    def read(self, images: slice, units: slice = slice(None)) -> np.ndarray:
        """Maps of a slice of the stored images, (U', B, h, w)."""
        return read(self.maps, units, images)

    def read_units(self, images: slice, units) -> np.ndarray:
        """Maps of some units by number, in any order, (U', B, h, w); each chunk is read once."""
        units = np.asarray(units, np.int64)
        found = np.empty((len(units), images.stop - images.start, *self.maps.shape[2:]), self.maps.dtype)
        step = self.unit_chunk
        for chunk in np.unique(units // step):
            rows = np.flatnonzero(units // step == chunk)
            for start in range(images.start, images.stop, self.block):
                span = slice(start, min(start + self.block, images.stop))
                part = self.read(span, slice(int(chunk) * step, (int(chunk) + 1) * step))
                found[rows, start - images.start : span.stop - images.start] = part[units[rows] - chunk * step]
        return found

    def pick(self, units: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The map of each (unit, row) pair, (P, h, w); each block of images that has one is read once."""
        found = np.empty((len(units), *self.maps.shape[2:]), self.maps.dtype)
        for block in np.unique(rows // self.block):
            pairs = np.flatnonzero(rows // self.block == block)
            start = int(block) * self.block
            part = self.read(slice(start, min(start + self.block, self.count)))
            found[pairs] = part[units[pairs], rows[pairs] - start]
        return found


def open_maps(path) -> StoredMaps:
    """Open an activations.zarr; raises InputError when it is missing or lacks a chunk."""
    store = open_store(path)
    record = {name: read(array) for name, array in store.arrays() if name not in ("maps", "max", "image")}
    return StoredMaps(store["maps"], store["max"], read(store["image"]), record)
