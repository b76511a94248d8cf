"""Activation maps of several layers in one pass over the images, stored by unit and image block.

The network is the floor: images are loaded (and corrupted) ahead by one thread and maps are
written behind by another.
"""

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from nemesis.devices import choose_batch, choose_device, is_out_of_memory
from nemesis.dissection.sinks import CountSink, MapSink, save_images, save_record
from nemesis.errors import InputError
from nemesis.files import sha256_json
from nemesis.memory import return_memory
from nemesis.models.network import LayerReader, Network, resolve_layers
from nemesis.models.registry import build_network
from nemesis.progress import Progress
from nemesis.stores import blocks, write_store

FLOAT16_MAX = 65504.0
UNSEEN = ("code", "shard", "shards")  # params that leave no trace in the result
GB = 1e9  # bytes
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


def extract_layers(
    model: str, params: dict, weights, probe, source: ImageSource, maps_paths, inputs=(), counted: bool = True
):
    """Store the maps of `source` for every layer of a config's model.

    `params` has the config's `spec` (of the model), `layers`, `dtype`, `batch`, `device` and
    `max_store_gb`, and which of `shards` parts of the source this is (`shard`); `maps_paths` are the
    layers' activations.zarr, or the zarr.json inside.
    """
    source = take_shard(source, int(params["shard"]), params["shards"])
    device = choose_device(params["device"])
    batch = choose_batch(params["batch"], probe.size, device)
    stores = [Path(str(path).removesuffix("/zarr.json")) for path in maps_paths]
    targets = dict(zip(params["layers"], stores, strict=True))
    network = build_network(model, params["spec"], Path(weights))
    if counted:
        _name_repeated(network, params["layers"])
    config_hash = sha256_json({key: value for key, value in params.items() if key not in UNSEEN})
    options = {"max_store_gb": params["max_store_gb"], "counted": counted}
    with LayerReader(network, params["layers"], device, pad_to=batch) as reader:
        extract_activations(
            reader.read, source, targets, params["dtype"], batch, device, config_hash, inputs, **options
        )


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


def extract_activations(
    run: Callable,
    source: ImageSource,
    targets: dict,
    dtype: str,
    batch: int,
    device,
    config_hash="",
    inputs=(),
    max_store_gb: float | None = None,
    counted: bool = True,
):
    """Store the activation maps of every layer in `targets` {layer: path of activations.zarr}.

    `run(images)` returns {layer: (B, U, h, w)}. Maps are stored as `dtype` (float16 or float32). A layer
    whose maps of the whole source are larger than `max_store_gb` (1e9 bytes) is streamed: only maxima and,
    if `counted`, counts are stored (see sinks.CountSink). A shard's store holds the blocks of its images
    alone, at their places among all; `gather_activations` joins them.
    Raises InputError that names layer, unit and image when an activation is not finite or does
    not fit in `dtype`. Out of memory on the device halves the batch, with one warning.
    """
    count = len(source.numbers)
    progress = Progress("extract", count)
    with contextlib.ExitStack() as stack:
        writing = ThreadPoolExecutor(1)
        open_writer = _WriterFactory(stack, writing, source, targets, dtype, config_hash, inputs, max_store_gb, counted)
        writers: dict[str, _LayerWriter] = {}
        try:
            for outputs in _run_batches(run, source, batch, device):
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
    targets: dict
    dtype: str
    config_hash: str
    inputs: tuple
    max_store_gb: float | None
    counted: bool

    def __call__(self, layer: str, maps: torch.Tensor) -> "_LayerWriter":
        shape = (maps.shape[1], self.source.of, *maps.shape[2:])  # (U, N, h, w)
        streamed = self._is_streamed(layer, shape)
        attrs = {"layer": layer} | ({"streamed": True, "shape": shape, "dtype": self.dtype} if streamed else {})
        group = self.stack.enter_context(write_store(self.targets[layer], self.config_hash, self.inputs, **attrs))
        save_images(group, self.source.numbers)
        sink = CountSink(group, shape, self.dtype, self.counted) if streamed else MapSink(group, shape, self.dtype)
        return _LayerWriter(sink, layer, shape, self.dtype, self.source, self.pool)

    def _is_streamed(self, layer: str, shape) -> bool:
        size = float(np.prod(shape, dtype=float)) * np.dtype(self.dtype).itemsize / GB
        if self.max_store_gb is None or size <= self.max_store_gb:
            return False
        limit = f"dissection.max_store_gb {self.max_store_gb:g}"
        if self.dtype != "float16":
            raise InputError(
                f"layer {layer}: {size:.3g} GB of maps are above {limit}, and only float16 maps can be streamed;"
                " set dissection.dtype: float16, or max_store_gb higher"
            )
        logging.info("layer %s: %.3g GB of maps are not stored (%s): it is streamed", layer, size, limit)
        return True


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
