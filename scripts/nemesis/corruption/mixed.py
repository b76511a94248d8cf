"""Maps of a corrupted probe: the clean maps, with those of the corrupted images in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nemesis.dissection.stored import MapSource, StoredMaps
from nemesis.perturb.noise import choose_images


@dataclass(frozen=True)
class MixedMaps(MapSource):
    """A map source: `clean` for all N images, but `corrupted` for the images in `chosen`.

    `rows` are the positions of the chosen images in the corrupted store.
    """

    clean: StoredMaps
    corrupted: StoredMaps
    chosen: np.ndarray  # (P,) image numbers, ascending
    rows: np.ndarray  # (P,)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.clean.shape

    @property
    def dtype(self) -> np.dtype:
        return self.clean.dtype

    @property
    def block(self) -> int:
        return self.clean.block

    @property
    def unit_chunk(self) -> int:
        return self.clean.unit_chunk

    def read(self, images: slice, units: slice = slice(None)) -> np.ndarray:
        """Maps of a slice of the probe's images, (U', B, h, w)."""
        first, last = np.searchsorted(self.chosen, [images.start, images.stop])
        if first == last:
            return self.clean.read(images, units)
        rows = self.rows[first:last]
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        corrupted = self.corrupted.read(span, units)[:, rows - rows[0]]
        if last - first == images.stop - images.start:
            return corrupted
        maps = self.clean.read(images, units).copy()
        maps[:, self.chosen[first:last] - images.start] = corrupted
        return maps

    def sources(self, weights: np.ndarray | None = None) -> list[tuple[StoredMaps, np.ndarray]]:
        """The stores behind it, each with how often each of its images counts; `weights` (N,) are the probe's."""
        weights = np.ones(self.count, np.int64) if weights is None else weights
        kept, taken = weights.copy(), np.zeros(self.corrupted.count, np.int64)
        kept[self.chosen] = 0
        taken[self.rows] = weights[self.chosen]
        return [(self.clean, kept), (self.corrupted, taken)]


def mix_maps(clean: StoredMaps, corrupted: StoredMaps, chosen: np.ndarray) -> MixedMaps:
    """Put the corrupted maps of the images `chosen` (ascending numbers) among the clean ones.

    Raises KeyError when the corrupted store lacks one of them.
    """
    rows = np.searchsorted(corrupted.image, chosen)
    if len(chosen) and (rows.max() >= len(corrupted.image) or (corrupted.image[rows] != chosen).any()):
        raise KeyError("the corrupted store lacks images that were chosen")
    return MixedMaps(clean, corrupted, chosen, rows)


@dataclass(frozen=True)
class NoisyMaps:
    """A layer's maps under one kind and size of noise: the clean ones, and of every draw those of the corrupted images.

    draws: by the draw's (name, seed); each has the images of the largest fraction. fractions: shares of the images that
    are corrupted.
    """

    clean: StoredMaps
    draws: Mapping[tuple[int, int], StoredMaps]
    fractions: Sequence[float]

    def mix(self, fraction: float, draw: tuple[int, int]) -> MixedMaps:
        """The maps of the probe when one draw corrupts a fraction of its images."""
        _, seed = draw
        return mix_maps(self.clean, self.draws[draw], choose_images(self.clean.count, fraction, seed))
