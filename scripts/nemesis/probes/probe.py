"""A probing dataset as one zarr store: each image and each label map is decoded once.

The labels are also stored as regions: pixels of a label map that carry the same labels on every plane. A label map
has few of them, so what is counted by region first and by concept afterwards takes one count per pixel instead of one
per plane.
"""

import csv
import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr

from nemesis.files import atomic_file, choose_quoting
from nemesis.probes.broden import BrodenFolder, decode_images, decode_labels, read_broden
from nemesis.probes.images import name_some
from nemesis.progress import Progress
from nemesis.stores import (
    CHUNK_BYTES,
    Layout,
    add_array,
    block_size,
    blocks,
    open_store,
    read,
    save_array,
    take,
    write_store,
)

NO_CATEGORY = 255
ROWS = 2**13  # labels of so many regions are read together


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


@dataclass(frozen=True)
class Rows:
    """What a store holds of its N images beside pixels and label maps; sizes are (height, width) in px."""

    names: Sequence[str]
    splits: Sequence[str]
    image_size: tuple[int, int]
    label_size: tuple[int, int]
    plane_category: np.ndarray  # uint8 (N, K): index into categories, NO_CATEGORY = none
    scalars: np.ndarray  # uint16 (N, S): concept numbers, 0 = none
    scalar_category: np.ndarray  # uint8 (N, S)


@dataclass(frozen=True)
class Probe:
    """A stored probe: N images (3, H, W) uint8, label maps (K, Hs, Ws) and image-level labels (S,).

    K is 0 for a folder of images without masks.
    """

    store: zarr.Group

    @property
    def count(self) -> int:
        return self.store["images"].shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.store["images"].shape[2:]

    @property
    def categories(self) -> list[str]:
        return self.store.attrs["categories"]

    @cached_property
    def names(self) -> list[str]:
        return [str(name) for name in read(self.store["names"])]

    @cached_property
    def splits(self) -> np.ndarray:
        """Split of each image, text (N,)."""
        return np.array([str(split) for split in read(self.store["splits"])])

    @cached_property
    def scalars(self) -> np.ndarray:
        """Image-level labels, uint16 (N, S); 0 = none."""
        return read(self.store["scalars"])

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the images' classes; none where the probe is no folder of images with sub-folders."""
        return list(self.store.attrs.get("class_names", ()))

    @cached_property
    def classes(self) -> np.ndarray:
        """Index of each image's class into class_names, int32 (N,); -1 = none."""
        if "classes" not in self.store:
            return np.full(self.count, -1, np.int32)
        return read(self.store["classes"])

    def images(self, start: int, stop: int) -> np.ndarray:
        """uint8 (B, 3, H, W)."""
        return read(self.store["images"], slice(start, stop))

    def labels(self, start: int, stop: int) -> np.ndarray:
        """uint16 (B, K, Hs, Ws); 0 = none."""
        return read(self.store["labels"], slice(start, stop))

    def take_images(self, numbers) -> np.ndarray:
        """Images by number in any order, uint8 (B, 3, H, W); each chunk is read once."""
        return take(self.store["images"], numbers)

    def take_labels(self, numbers) -> np.ndarray:
        """Label maps by number in any order, uint16 (B, K, Hs, Ws)."""
        return take(self.store["labels"], numbers)

    @cached_property
    def _region_ends(self) -> np.ndarray:
        """First region of each image among all, and behind the last, (N + 1,)."""
        return np.concatenate([[0], np.cumsum(read(self.store["region_count"]).astype(np.int64))])

    def take_regions(self, numbers) -> Regions:
        """Regions of label maps by number in any order."""
        numbers = np.asarray(numbers, np.int64)
        ends = self._region_ends
        first = int(ends[numbers.min()])
        labels = read(self.store["region_labels"], slice(first, int(ends[numbers.max() + 1])))
        found = [labels[ends[number] - first : ends[number + 1] - first] for number in numbers]
        return Regions(take(self.store["regions"], numbers), found)


def open_probe(path) -> Probe:
    """Open a probe.zarr; raises InputError when it is missing or damaged."""
    return Probe(open_store(path))


def remember_images(probe: Probe, numbers=None, limit: int = 2**28):
    """What loads images by number, like `take_images`, but decodes each of `numbers` (None: all) only once.

    Images of more than `limit` bytes together are not remembered.
    """
    wanted = np.arange(probe.count) if numbers is None else np.unique(numbers)
    stored = probe.store["images"]
    if len(wanted) * math.prod(stored.shape[1:]) > limit:
        return probe.take_images
    images = probe.take_images(wanted)
    return lambda some: images[np.searchsorted(wanted, some)]


def prepare_probe(root, store_path, concepts_path, splits=None, max_images=None, config_hash=""):
    """Decode a Broden folder into `store_path` (zarr) and `concepts_path` (CSV).

    Raises InputError that names the image, mask, table or row that is wrong.
    """
    folder = read_broden(root, splits, max_images)
    tables = [Path(root) / name for name in ("index.csv", "label.csv", "category.csv")]
    with write_store(store_path, config_hash, tables, categories=list(folder.categories)) as group:
        frequency, coverage = _write_broden(group, folder)
        _remark_absent(folder, frequency, whole=not (splits or max_images))
        group.attrs["notes"] = folder.remarks.finish()
    write_concepts(concepts_path, folder.concepts.values(), frequency, coverage)
    logging.info("%d images, %d concepts that occur", len(folder.rows), int((frequency > 0).sum()))


def unlabelled_rows(names: Sequence[str], image_size: tuple[int, int]) -> Rows:
    """Images in no split, without label planes and image-level labels."""
    none = [()] * len(names)
    return Rows(names, [""] * len(names), image_size, image_size, _pad(none, 0)[1], *_pad(none))


def write_arrays(group, rows: Rows, decode):
    """Fill a probe's store block by block with what `decode(start, stop, pool)` gives on a pool of threads.

    It gives images uint8 (B, 3, H, W) and label maps uint16 (B, K, Hs, Ws).
    """
    count, planes = rows.plane_category.shape
    pixels, cells = (size[0] * size[1] for size in (rows.image_size, rows.label_size))
    chunk = _images_in_chunk(max(3 * pixels, 2 * planes * cells))
    block = -(-block_size(3 * pixels, count) // chunk) * chunk
    images = _add_images(group, "images", (count, 3, *rows.image_size), "uint8", (chunk, block), "0 to 255, RGB")
    labels = _add_images(group, "labels", (count, planes, *rows.label_size), "uint16", (chunk, block), "concept")
    save_array(group, "scalars", rows.scalars, ("image", "slot"), "concept number, 0 = none")
    save_array(group, "scalar_category", rows.scalar_category, ("image", "slot"), "index into categories, 255 = none")
    save_array(group, "plane_category", rows.plane_category, ("image", "plane"), "index into categories, 255 = none")
    _save_text(group, "names", rows.names)
    _save_text(group, "splits", rows.splits)
    regions = None
    if planes:
        shape, dtype = (count, *rows.label_size), id_type(rows.label_size)
        regions = _add_images(group, "regions", shape, dtype, (chunk, block), "number of the image's region")
    tables: list[np.ndarray] = []
    progress = Progress("decode", count)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start, stop in blocks(count, block):
            images[start:stop], maps = decode(start, stop, pool)
            labels[start:stop] = maps
            if regions is not None:
                parts = list(pool.map(find_regions, maps[:, None]))
                regions[start:stop] = np.concatenate([part.ids for part in parts])
                tables += [part.labels[0] for part in parts]
            progress.add(stop - start)
    if regions is not None:
        _save_regions(group, tables)


def write_concepts(path, concepts=(), frequency=(), coverage=()):
    """Write a concepts.csv: a row per broden.Concept, with frequency and coverage looked up by its number."""
    quoting = choose_quoting(concept.name for concept in concepts)
    with atomic_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n", quoting=quoting)
        writer.writerow(["number", "name", "category", "frequency", "coverage"])
        for concept in sorted(concepts, key=lambda concept: concept.number):
            number = concept.number
            writer.writerow([number, concept.name, concept.category, frequency[number], repr(float(coverage[number]))])


def present_concepts(probe: Probe) -> tuple[np.ndarray, list[int]]:
    """Which concepts occur in which image, bool (N, C), and the numbers (C) of those that occur at all."""
    length = 65536
    present = []
    for start, stop in blocks(probe.count, 128):
        rows = zip(probe.labels(start, stop), probe.scalars[start:stop], strict=True)
        present += [np.union1d(planes, whole) for planes, whole in rows]
    seen = np.zeros((probe.count, length), bool)
    for image, numbers in enumerate(present):
        seen[image, numbers] = True
    seen[:, 0] = False
    numbers = seen.any(axis=0).nonzero()[0]
    return seen[:, numbers], numbers.tolist()


def read_concepts(path) -> list[dict]:
    """Rows of a concepts.csv: number (int), name, category, frequency (int), coverage (float)."""
    with open(path, newline="", encoding="utf-8") as stream:
        return [
            row | {"number": int(row["number"]), "frequency": int(row["frequency"])} for row in csv.DictReader(stream)
        ]


def _find_regions(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regions of one image's label planes (K, Hs, Ws): ids (Hs, Ws) and labels (R, K)."""
    ids = np.zeros(planes[0].size, np.int64)
    table = np.zeros((1, 0), planes.dtype)
    for plane in planes:
        numbers, local = np.unique(plane, return_inverse=True)
        keys, ids = np.unique(ids * len(numbers) + local.ravel(), return_inverse=True)
        table = np.column_stack([table[keys // len(numbers)], numbers[keys % len(numbers)]])
    return ids.reshape(planes.shape[1:]), table


def _write_broden(group, folder: BrodenFolder):
    """Fill the store; how many images show each concept, and the sum of the shares that it covers there."""
    planes = max(1, *(len(row.planes) for row in folder.rows)) if folder.rows else 1
    plane_category = _pad([[(c, 1) for c, _ in row.planes] for row in folder.rows], planes)[1]
    names, splits = [row.image for row in folder.rows], [row.split for row in folder.rows]
    scalars, scalar_category = _pad([row.scalars for row in folder.rows])
    rows = Rows(names, splits, folder.image_size, folder.label_size, plane_category, scalars, scalar_category)
    length = 1 + max(folder.concepts, default=0)
    frequency, coverage = np.zeros(length, np.int64), np.zeros(length)

    def decode(start, stop, pool):
        images = decode_images(folder, start, stop, pool)
        labels = decode_labels(folder, start, stop, planes, pool)
        for number, area in _present(labels, scalars[start:stop], length):
            frequency[number] += 1
            coverage[number] += area
        return images, labels

    write_arrays(group, rows, decode)
    return frequency, coverage


def _images_in_chunk(bytes_per_image: int) -> int:
    """Images that are read together, a power of two: few enough that one image costs little."""
    return 2 ** int(np.log2(max(1, CHUNK_BYTES // max(1, bytes_per_image))))


def _add_images(group, name, shape, dtype, images: tuple[int, int], units):
    """An array with an entry per image; `images` of a chunk and of a shard."""
    dims = {"images": ("image", "channel", "y", "x"), "labels": ("image", "plane", "y", "x")}
    dims = dims.get(name, ("image", "y", "x"))
    chunks, shards = ((number, *(max(n, 1) for n in shape[1:])) for number in images)
    return add_array(group, name, shape, dtype, Layout(dims, units, chunks, shards))


def _save_regions(group, tables: list[np.ndarray]):
    """The labels of every image's regions, one image after another, and how many each image has."""
    labels = np.concatenate(tables)  # (T, K)
    save_array(group, "region_count", np.array([len(table) for table in tables], np.uint32), ("image",), "regions")
    chunks = (ROWS, labels.shape[1])
    save_array(group, "region_labels", labels, ("region", "plane"), "concept number, 0 = none", chunks)


def _save_text(group, name: str, texts):
    array = group.create_array(
        name,
        shape=(len(texts),),
        dtype=str,
        chunks=(max(1, len(texts)),),
        config={"write_empty_chunks": True},
    )
    array[:] = np.array(texts, dtype=object)
    array.attrs.update(dimensions=["image"], units="text")


def _pad(rows, width: int | None = None):
    """Ragged (category, value) pairs to two arrays (N, width), padded with 0 and NO_CATEGORY."""
    width = max(1, *(len(row) for row in rows)) if width is None else width
    values = np.zeros((len(rows), width), np.uint16)
    categories = np.full((len(rows), width), NO_CATEGORY, np.uint8)
    for index, row in enumerate(rows):
        for slot, (category, value) in enumerate(row):
            values[index, slot], categories[index, slot] = value, category
    return values, categories


def _remark_absent(folder: BrodenFolder, frequency: np.ndarray, whole: bool):
    """Labels that occur nowhere; of a part of a probe that is no surprise."""
    absent = [concept.name for number, concept in folder.concepts.items() if not frequency[number]]
    if absent:
        about = f"{len(absent)} of {len(folder.concepts)} labels occur in no image: {name_some(absent)}"
        folder.remarks.say(f"label.csv: {about}", logging.WARNING if whole else logging.INFO)


def _present(labels: np.ndarray, scalars: np.ndarray, length: int):
    """Yield (concept, covered fraction) for every concept of every image of a block."""
    pixels = labels.shape[2] * labels.shape[3]
    for planes, whole in zip(labels, scalars, strict=True):
        areas = np.bincount(planes.ravel(), minlength=length).astype(float)
        areas[whole] = pixels
        areas[0] = 0
        for number in areas.nonzero()[0]:
            yield number, min(1.0, areas[number] / pixels)
