"""The shards of an extraction as one activations.zarr, the same bytes as from one job."""

import contextlib
import itertools
import os
import shutil
from pathlib import Path

import numpy as np

from nemesis.dissection.sinks import (
    MapSink,
    Strongest,
    add_max,
    clear_store,
    complete_store,
    keep_strongest,
    save_counts,
    save_images,
    save_record,
    save_tops,
)
from nemesis.dissection.stored import KNOWN
from nemesis.errors import InputError
from nemesis.stores import block_size, blocks, list_groups, open_store, read, write_group

OWN = ("nemesis_version", "arrays")  # attributes that the new store sets itself


def gather_activations(shards, store):
    """Join the stores of consecutive shards of images, layer by layer, into a store.

    Files of whole blocks are linked, not written again. Other layers that the store has stay if they fit.
    """
    origin = _copied(open_store(shards[0]))
    clear_store(store, origin)
    with complete_store(store, origin):
        for layer in list_groups(shards[0]):
            _join_layer([open_store(shard, whole=False, layer=layer) for shard in shards], Path(store) / layer)


def _copied(group) -> dict:
    return {name: value for name, value in group.attrs.items() if name not in OWN}


def _join_layer(parts: list, path: Path):
    """Join the groups of a layer."""
    numbers = [read(part["image"]) for part in parts]
    edges = list(itertools.accumulate(map(len, numbers), initial=0))
    record = [name for name in parts[0] if name not in KNOWN]
    with write_group(path, **_copied(parts[0])) as group:
        save_images(group, np.concatenate(numbers))
        if group.attrs.get("streamed"):
            _join_streamed(group, parts, edges)
        else:
            sink = MapSink(group, parts[0]["maps"].shape, str(parts[0]["maps"].dtype), counted=False)
            _join_blocks(sink.maps, "maps", parts, edges)
            _join_blocks(sink.max, "max", parts, edges)
        if "counts" in parts[0]:
            counts = read(parts[0]["counts"])
            for part in parts[1:]:
                counts += read(part["counts"])
            save_counts(group, counts)
        save_record(group, {name: np.concatenate([read(part[name]) for part in parts]) for name in record})


def _join_streamed(group, parts, edges):
    """What is kept of a streamed layer."""
    (units, count, height, width), dtype = group.attrs["shape"], group.attrs["dtype"]
    block = block_size(units * height * width * np.dtype(dtype).itemsize, count)
    _join_blocks(add_max(group, group.attrs["shape"], dtype, block), "max", parts, edges)
    tops = _read_strongest(parts[0])
    for part in parts[1:]:
        tops = keep_strongest(tops, _read_strongest(part))
    save_tops(group, tops)


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
