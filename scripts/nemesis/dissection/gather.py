"""The shards of an extraction as one activations.zarr, the same bytes as from one job."""

import contextlib
import itertools
import os
import shutil
from pathlib import Path

import numpy as np

from nemesis.dissection.sinks import MapSink, Strongest, add_max, keep_strongest, save_counts, save_images, save_record
from nemesis.dissection.stored import KNOWN
from nemesis.errors import InputError
from nemesis.stores import block_size, blocks, open_store, read, write_store

OWN = ("nemesis_version", "config_hash", "arrays")  # attributes that the new store sets itself


def gather_activations(shards: list, path):
    """Join the stores of consecutive shards of images; files of whole blocks are linked, not written again."""
    parts = [open_store(shard, whole=False) for shard in shards]
    numbers = [read(part["image"]) for part in parts]
    edges = list(itertools.accumulate(map(len, numbers), initial=0))
    attrs = {name: value for name, value in parts[0].attrs.items() if name not in OWN}
    record = [name for name in parts[0] if name not in KNOWN]
    with write_store(path, parts[0].attrs["config_hash"]) as group:
        group.attrs.update(attrs)
        save_images(group, np.concatenate(numbers))
        if attrs.get("streamed"):
            _join_counts(group, parts, edges, attrs)
        else:
            sink = MapSink(group, parts[0]["maps"].shape, str(parts[0]["maps"].dtype))
            _join_blocks(sink.maps, "maps", parts, edges)
            _join_blocks(sink.max, "max", parts, edges)
        save_record(group, {name: np.concatenate([read(part[name]) for part in parts]) for name in record})


def _join_counts(group, parts, edges, attrs):
    """What is kept of a streamed layer."""
    units, count, height, width = attrs["shape"]
    block = block_size(units * height * width * np.dtype(attrs["dtype"]).itemsize, count)
    _join_blocks(add_max(group, attrs["shape"], attrs["dtype"], block), "max", parts, edges)
    counts = sum(read(part["counts"]) for part in parts) if "counts" in parts[0] else None
    tops = _read_strongest(parts[0])
    for part in parts[1:]:
        tops = keep_strongest(tops, _read_strongest(part))
    save_counts(group, counts, tops)


def _read_strongest(part) -> Strongest:
    image, highest, maps = (read(part[name]) for name in ("top_image", "top_max", "top_maps"))
    return Strongest(image.astype(np.int64), highest, maps)


def _join_blocks(array, name: str, parts, edges):
    """Fill an array (U, N, ...) block by block: from the one shard that has all of a block, or from several."""
    for number, (start, stop) in enumerate(blocks(array.shape[1], array.chunks[1])):
        inside = [
            (part[name], slice(max(start, first), min(stop, last)))
            for part, (first, last) in zip(parts, itertools.pairwise(edges), strict=True)
            if first < stop and last > start
        ]
        files = [_chunk_file(source, number) for source, _ in inside]
        for file in files:
            if not file.is_file():
                raise InputError(f"{file}: this chunk of a shard is missing; delete the shard's folder and run again")
        if len(files) == 1:
            _link(files[0], _chunk_file(array, number))
        else:
            array[:, start:stop] = np.concatenate([read(source, slice(None), span) for source, span in inside], axis=1)


def _chunk_file(array, number: int) -> Path:
    """The file of a block of images."""
    place = ["c", "0", str(number), *["0"] * (len(array.shape) - 2)]
    return Path(str(array.store_path.store.root), array.path, *place)


def _link(source: Path, target: Path):
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
