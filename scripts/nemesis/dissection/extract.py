"""Activation maps of several layers in one pass over the images, stored by unit and image block.

The network is the floor: images are loaded (and corrupted) ahead by one thread and maps are
written behind by another.
"""

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from nemesis.devices import is_out_of_memory
from nemesis.dissection.counts import BINS, counting_dtype
from nemesis.dissection.sinks import CountSink, MapSink, clear_store, complete_store, save_images, save_record
from nemesis.errors import InputError
from nemesis.files import sha256_file
from nemesis.memory import return_memory
from nemesis.models.network import LayerReader, Network, resolve_layers
from nemesis.progress import Progress
from nemesis.stores import blocks, write_group

FLOAT16_MAX = 65504.0
GB = 1e9  # bytes
COUNT_BYTES = 2**32  # of counts of stored layers; those of more than 16,384 units are not counted
LARGE = 2**23  # bytes of a block whose buffers would leave ever more free memory behind


@dataclass(frozen=True)
class ImageSource:
    """The images to show: `load(start, stop)` gives (B, 3, H, W), uint8 or float in [0, 1].

    `numbers` (P,) are their numbers in the probe and `names` what to call them in an error.
    `record` holds arrays (P,) that loading fills; they are stored beside the maps.
    A shard holds the images from `first` on of a source of `total` images (None: it is the whole).
    """

    numbers: np.ndarray
    names: list[str]
    load: Callable[[int, int], np.ndarray]
    record: dict[str, np.ndarray] = field(default_factory=dict)
    first: int = 0
    total: int | None = None

    @property
    def of(self) -> int:
        """Images of the whole source."""
        return len(self.numbers) if self.total is None else self.total


def take_shard(source: ImageSource, shard: int, shards: int) -> ImageSource:
    """A consecutive part of a source; InputError when there are more shards than images."""
    count = len(source.numbers)
    if shards > count:
        raise InputError(f"extraction.shards: {shards} shards of {count} images; lower it to at most {count}")
    if shards == 1:
        return source
    first, last = shard * count // shards, (shard + 1) * count // shards
    record = {name: values[first:last] for name, values in source.record.items()}
    load = lambda start, stop: source.load(first + start, first + stop)  # noqa: E731
    return ImageSource(source.numbers[first:last], source.names[first:last], load, record, first, count)


def probe_images(probe) -> ImageSource:
    """All images of a probe."""
    return ImageSource(np.arange(probe.count), probe.names, probe.images)


@dataclass(frozen=True)
class ExtractionSettings:
    """How maps are made and stored.

    batch: images in a forward pass. device: where it runs. dtype: of the stored maps, float16 or float32.
    max_store_gb: a layer whose maps of the whole source are larger (1e9 bytes) is streamed (see sinks.CountSink);
    None: none is. counted: values are counted while they are stored, which float16 allows. config_hash, inputs, code:
    recorded as what the maps were made from: a hash of settings, the names of files, a hash of the program.
    """

    batch: int
    device: torch.device | str = "cpu"
    dtype: str = "float16"
    max_store_gb: float | None = None
    counted: bool = True
    config_hash: str = ""
    inputs: tuple = ()
    code: str = ""

    @cached_property
    def origin(self) -> dict:
        """Attributes of what is made so."""
        created_from = {str(name): sha256_file(name) for name in self.inputs}
        return {"config_hash": self.config_hash, "created_from": created_from, "code": self.code}


def extract_layers(network: Network, layers, source: ImageSource, store, settings: ExtractionSettings):
    """Store the maps of a network's layers on `source` in one pass; see `extract_activations`.

    Layers that the store has already, made from the same (with a `config_hash`, to tell), are left as they are,
    unless it has all of `layers`: then they are made again. Other layers stay if they were made from the same.
    """
    kept = clear_store(store, settings.origin)
    missing = [layer for layer in layers if layer not in kept] or list(layers)
    if len(missing) < len(layers):
        logging.info("%s: has all but %s", store, ", ".join(missing))
    if settings.counted:
        _name_repeated(network, missing)
    with LayerReader(network, missing, settings.device, pad_to=settings.batch) as reader:
        extract_activations(reader.read, source, store, settings)


def _name_repeated(network: Network, layers):
    """Say which of a module's outputs is read, where a forward pass calls it several times."""
    for name, path in resolve_layers(network, layers).items():
        calls = network.layouts[path].calls if path in network.layouts else 1
        if calls > 1:
            logging.warning(
                "model %s: a forward pass calls layer %s %d times, and its first output is explained; for another,"
                " name the block that ends with it, or give each call a module of its own",
                network.name, name, calls,
            )  # fmt: skip


def extract_activations(run: Callable, source: ImageSource, store, settings: ExtractionSettings):
    """Store the maps that `run` gives for `source`, a group a layer, in the folder `store`.

    `run(images)` returns {layer: (B, U, h, w)}. Of a streamed layer only maxima, counts and the maps of each unit's
    strongest images are stored. A shard's store holds the blocks of its images alone, at their places among all;
    `gather_activations` joins them. A layer that the store has already is replaced.
    Raises InputError that names layer, unit and image when an activation is not finite or does
    not fit in `dtype`. Out of memory on the device halves the batch, with one warning.
    """
    progress = Progress("extract", len(source.numbers))
    with complete_store(store, settings.origin), contextlib.ExitStack() as stack:
        writing = ThreadPoolExecutor(1)
        open_writer = _WriterFactory(stack, writing, source, Path(store), settings)
        writers: dict[str, _LayerWriter] = {}
        try:
            for outputs in _run_batches(run, source, settings.batch, settings.device):
                for layer, maps in outputs.items():
                    if layer not in writers:
                        writers[layer] = open_writer(layer, maps)
                    writers[layer].add(maps)
                progress.add(len(maps))
            for writer in writers.values():
                writer.finish()
        finally:  # before the stores go, or a late write would leave a part of one behind
            writing.shutdown(cancel_futures=True)


def _run_batches(run, source: ImageSource, size: int, device):
    """Yield the network's outputs batch by batch; the next images load meanwhile."""
    spans = list(blocks(len(source.numbers), size))
    with ThreadPoolExecutor(1) as ahead, torch.inference_mode():
        pending = ahead.submit(source.load, *spans[0])
        for index in range(len(spans)):
            images = torch.from_numpy(pending.result())
            if index + 1 < len(spans):
                pending = ahead.submit(source.load, *spans[index + 1])
            start = 0
            while start < len(images):
                try:
                    outputs = run(images[start : start + size].to(device, non_blocking=True))
                except RuntimeError as error:
                    size = _halve(error, size)
                    continue
                yield outputs
                start += size


def _halve(error: RuntimeError, size: int) -> int:
    if not is_out_of_memory(error):
        raise error
    if size == 1:
        raise InputError("the device has too little memory for one image; use device: cpu") from error
    logging.warning("out of memory: the batch is halved from %d to %d images", size, size // 2)
    return size // 2


@dataclass
class _WriterFactory:
    stack: contextlib.ExitStack
    pool: ThreadPoolExecutor
    source: ImageSource
    store: Path
    settings: ExtractionSettings
    room: int = COUNT_BYTES  # left for counts

    def __call__(self, layer: str, maps: torch.Tensor) -> "_LayerWriter":
        shape = (maps.shape[1], self.source.of, *maps.shape[2:])  # (U, N, h, w)
        dtype, streamed = self.settings.dtype, self._is_streamed(layer, shape)
        attrs = {"layer": layer} | ({"streamed": True, "shape": shape, "dtype": dtype} if streamed else {})
        group = self.stack.enter_context(write_group(self.store / layer, **self.settings.origin, **attrs))
        save_images(group, self.source.numbers)
        sink = (CountSink if streamed else MapSink)(group, shape, dtype, self._is_counted(layer, shape, streamed))
        return _LayerWriter(sink, layer, shape, dtype, self.source, self.pool)

    def _is_streamed(self, layer: str, shape) -> bool:
        size = float(np.prod(shape, dtype=float)) * np.dtype(self.settings.dtype).itemsize / GB
        if self.settings.max_store_gb is None or size <= self.settings.max_store_gb:
            return False
        limit = f"dissection.max_store_gb {self.settings.max_store_gb:g}"
        if self.settings.dtype != "float16":
            raise InputError(
                f"layer {layer}: {size:.3g} GB of maps are above {limit}, and only float16 maps can be streamed;"
                " set dissection.dtype: float16, or max_store_gb higher"
            )
        logging.info("layer %s: %.3g GB of maps are not stored (%s): it is streamed", layer, size, limit)
        return True

    def _is_counted(self, layer: str, shape, streamed: bool) -> bool:
        """A streamed layer has to be counted, another one while there is room for it."""
        if not self.settings.counted or self.settings.dtype != "float16":
            return False
        units, count, height, width = shape
        self.room -= units * BINS * counting_dtype(count * height * width).itemsize
        if self.room < 0 and not streamed:
            logging.info("layer %s: its values are not counted; %.3g GB are full of counts", layer, COUNT_BYTES / GB)
        return streamed or self.room >= 0


class _LayerWriter:
    """Collects the maps of one layer into blocks and hands full blocks to the writing thread."""

    def __init__(self, sink, layer: str, shape, dtype: str, source: ImageSource, pool: ThreadPoolExecutor):
        units, _, height, width = shape
        self.sink, self.layer, self.source, self.pool = sink, layer, source, pool
        self.limit = FLOAT16_MAX if dtype == "float16" else torch.finfo(torch.float32).max
        self.dtype = getattr(torch, dtype)
        self.start, self.filled = source.first, 0
        self.pending: Future | None = None
        self.fresh = lambda: (
            torch.empty((units, sink.block, height, width), dtype=self.dtype),
            torch.empty((units, sink.block), dtype=self.dtype),
        )
        self.buffer = self.fresh()

    def add(self, maps: torch.Tensor):
        """Append (B, U, h, w) in the order of the source."""
        lowest, highest = maps.flatten(2).aminmax(dim=2)  # (B, U) each
        self._check(lowest, highest)
        while len(maps):
            end = self.sink.block - self.start % self.sink.block  # a shard may start within a block
            room = slice(self.filled, min(self.filled + len(maps), end))
            taken = room.stop - room.start
            self.buffer[0][:, room] = maps[:taken].transpose(0, 1).to(self.dtype)
            self.buffer[1][:, room] = highest[:taken].transpose(0, 1).to(self.dtype)
            maps, highest = maps[taken:], highest[taken:]
            self.filled = room.stop
            if self.filled == end:
                self._flush()

    def finish(self):
        """Write what is left, and the source's record, and wait for the writing thread."""
        if self.filled:
            self._flush()
        save_record(self.sink.group, self.source.record)
        if self.pending:
            self.pending.result()
        self.sink.finish()

    def _flush(self):
        if self.pending:
            self.pending.result()
        maps, highest = (part[:, : self.filled].numpy() for part in self.buffer)
        self.pending = self.pool.submit(self._write, self.start, maps, highest)
        self.start += self.filled
        self.filled = 0
        self.buffer = self.fresh()

    def _write(self, start: int, maps: np.ndarray, highest: np.ndarray):
        self.sink.add(start, maps, highest)
        if maps.nbytes >= LARGE:
            return_memory()

    def _check(self, lowest: torch.Tensor, highest: torch.Tensor):
        bad = ~((lowest >= -self.limit) & (highest <= self.limit))  # also true for NaN
        if not bad.any():
            return
        row, unit = (int(n) for n in bad.nonzero()[0])
        name = self.source.names[self.start - self.source.first + self.filled + row]
        low, high = float(lowest[row, unit]), float(highest[row, unit])
        if np.isfinite([low, high]).all():
            problem = f"reaches {max(high, -low):g}, above float16's {self.limit:g}; set dissection.dtype: float32"
        else:
            problem = "is NaN or infinite; check the network's weights, mean and std"
        raise InputError(f"layer {self.layer}, unit {unit}, image {name}: the activation {problem}")
