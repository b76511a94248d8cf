"""Stored activation maps, and those too large to store; reading needs no deep learning library by itself."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nemesis.errors import InputError
from nemesis.stores import open_store, read

KNOWN = ("maps", "max", "image", "counts", "top_image", "top_max", "top_maps")  # other arrays are a record
HELD = 2  # blocks of a streamed layer in memory


class MapSource:
    """What every map source has by its `shape` (U, N, h, w); beside it `dtype`, `block`, `unit_chunk` and `read`.

    A store, which has maps of its own, also has `image` (N,): the images' numbers in the probe, ascending.
    """

    @property
    def units(self) -> int:
        return self.shape[0]

    @property
    def count(self) -> int:
        return self.shape[1]

    def sources(self, weights: np.ndarray | None = None) -> list[tuple["MapSource", np.ndarray]]:
        """The stores behind it, each with how often each of its images counts; `weights` (N,), or once each."""
        return [(self, np.ones(self.count, np.int64) if weights is None else weights)]


def weigh_stores(runs: list[list[tuple[MapSource, np.ndarray]]]) -> list[tuple[MapSource, np.ndarray]]:
    """The stores behind R map sources (what `sources` gave), each with how often each run counts its images, (R, N)."""
    stores = {id(store): store for run in runs for store, _ in run}
    times = [{id(store): weights for store, weights in run} for run in runs]
    return [
        (store, np.stack([weights.get(key, np.zeros(store.count, np.int64)) for weights in times]))
        for key, store in stores.items()
    ]


@dataclass(frozen=True)
class StoredMaps(MapSource):
    """A layer of an opened activations.zarr: `maps` (U, P, h, w), `max` (U, P), `image` (P,).

    `counts` (U, 65536) are those of its float16 values, a bin a bit pattern; None where they were not counted.
    """

    maps: object
    max: object
    image: np.ndarray
    record: dict[str, np.ndarray] = field(default_factory=dict)
    counts: object = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.maps.shape

    @property
    def dtype(self) -> np.dtype:
        return self.maps.dtype

    @property
    def unit_chunk(self) -> int:
        return self.maps.chunks[0]

    @property
    def block(self) -> int:
        """Images in one shard."""
        return self.maps.chunks[1]

    def read(self, images: slice, units: slice = slice(None)) -> np.ndarray:
        """Maps of a slice of the stored images, (U', B, h, w)."""
        return read(self.maps, units, images)

    def read_units(self, images: slice, units) -> np.ndarray:
        """Maps of some units by number, in any order, (U', B, h, w); each chunk is read once."""
        units = np.asarray(units, np.int64)
        found = np.empty((len(units), images.stop - images.start, *self.shape[2:]), self.dtype)
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
        return pick_maps(self, units, rows)


Again = Callable[[str, int, int], np.ndarray]  # (layer, start, stop) -> maps (U, B, h, w) of the stored images


@dataclass(frozen=True)
class StreamedMaps(MapSource):
    """A layer of an opened activations.zarr whose maps were too large to store: the network gives them again.

    A map source with the interface of StoredMaps; `again` makes the maps of consecutive images, bit for bit
    those that were counted, `block` images at a time, of which the last HELD are remembered. `counts`
    (U, 65536) (None for corrupted images) and `tops` (image (U, T), maps (U, T, h, w)) are what was kept of them.
    """

    layer: str
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    max: object
    counts: object
    tops: tuple[np.ndarray, object]
    image: np.ndarray
    record: dict[str, np.ndarray]
    again: Again | None = None
    block: int = 1
    held: OrderedDict = field(default_factory=OrderedDict)

    @property
    def unit_chunk(self) -> int:
        """All units: they come out of the network together."""
        return self.units

    def read(self, images: slice, units: slice = slice(None)) -> np.ndarray:
        """Maps of a slice of the images, (U', B, h, w)."""
        start, stop, _ = images.indices(self.count)
        parts = []
        for number in range(start // self.block, -(-stop // self.block)):
            first = number * self.block
            parts.append(self._make(number)[units, max(start - first, 0) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def read_units(self, images: slice, units) -> np.ndarray:
        """Maps of some units by number, in any order, (U', B, h, w)."""
        units = np.asarray(units, np.int64)
        found = np.empty((len(units), images.stop - images.start, *self.shape[2:]), self.dtype)
        for start in range(images.start, images.stop, self.block):
            span = slice(start, min(start + self.block, images.stop))
            found[:, start - images.start : span.stop - images.start] = self.read(span)[units]
        return found

    def pick(self, units: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The map of each (unit, row) pair, (P, h, w): from those that were kept, or by running the network."""
        image, maps = self.tops
        place = (image[units] == rows[:, None]).argmax(axis=1)
        kept = image[units, place] == rows
        found = np.empty((len(units), *self.shape[2:]), self.dtype)
        for unit in np.unique(units[kept]):
            mine = kept & (units == unit)
            found[mine] = read(maps, int(unit))[place[mine]]
        if not kept.all():
            found[~kept] = pick_maps(self, units[~kept], rows[~kept])
        return found

    def _make(self, number: int) -> np.ndarray:
        """Maps of a block, (U, B, h, w)."""
        if number not in self.held:
            if self.again is None:
                raise InputError(
                    f"layer {self.layer}: its maps are not stored (dissection.max_store_gb), and this job needs them;"
                    " raise max_store_gb, or leave the layer out of designed.layers and milan.layers"
                )
            while len(self.held) >= HELD:
                self.held.popitem(last=False)
            start = number * self.block
            self.held[number] = self.again(self.layer, start, min(start + self.block, self.count))
        self.held.move_to_end(number)
        return self.held[number]


def pick_maps(source, units: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The map of each (unit, row) pair of a map source, (P, h, w); each block of images that has one is read once."""
    found = np.empty((len(units), *source.shape[2:]), source.dtype)
    for block in np.unique(rows // source.block):
        pairs = np.flatnonzero(rows // source.block == block)
        start = int(block) * source.block
        part = source.read(slice(start, min(start + source.block, source.count)))
        found[pairs] = part[units[pairs], rows[pairs] - start]
    return found


def open_maps(store, layer: str, again: Again | None = None) -> StoredMaps | StreamedMaps:
    """Open a layer of an activations.zarr; raises InputError when it is missing or lacks a chunk.

    `again` runs the network again, should the layer be streamed; without it, reading such maps raises InputError.
    """
    group = open_store(store, layer=layer)
    record = {name: read(array) for name, array in group.arrays() if name not in KNOWN}
    image, counts = read(group["image"]), group.get("counts")
    if not group.attrs.get("streamed"):
        return StoredMaps(group["maps"], group["max"], image, record, counts)
    shape, dtype = tuple(group.attrs["shape"]), np.dtype(group.attrs["dtype"])
    tops = (read(group["top_image"]).astype(np.int64), group["top_maps"])
    block = getattr(again, "batch", 1)
    return StreamedMaps(layer, shape, dtype, group["max"], counts, tops, image, record, again, block)
