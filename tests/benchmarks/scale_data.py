"""Made-up images, labels and maps at VGG16's real shapes, and where a measurement of `make scale` works."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIDE, LABEL_SIDE, GRID = 224, 112, 14
LAYERS = {
    "conv1_2": (64, 224, 224),
    "conv2_2": (128, 112, 112),
    "conv3_3": (256, 56, 56),
    "conv4_3": (512, 28, 28),
    "conv5_3": (512, 14, 14),
}
# Concepts by category, 1,197 in all as in Broden, and how likely an image has a plane or a label of it.
CATEGORIES = {"color": 11, "object": 527, "part": 180, "material": 32, "scene": 400, "texture": 47}
PLANES = (("color", 1.0), ("object", 0.7), ("object", 0.2), ("part", 0.4), ("part", 0.2), ("material", 0.4))
SCALARS = (("scene", 0.6), ("texture", 0.1))
SETTINGS = {"quantile": 0.005, "threshold": "exact", "iou": "published", "min_iou": 0.04, "dtype": "float16"}
SEED, BATCH, TASKS = 0, 16, 8
SOURCE = 15  # the fourth object
BUDGETS = (0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Place:
    """Where a measurement works: a folder, a layer's name ("" where it has none), a number of images, a device."""

    folder: Path
    layer: str
    images: int
    device: str

    @property
    def shape(self) -> tuple[int, int, int]:
        return LAYERS[self.layer]

    @property
    def batch(self) -> int:
        return min(BATCH, self.images)

    @property
    def maps(self) -> Path:
        return self.folder / f"{self.layer}.zarr"

    def open(self):
        """The made-up probe, its concepts, and the device."""
        from nemesis.devices import choose_device
        from nemesis.dissection.dissect import load_concepts
        from nemesis.probes.probe import open_probe

        probe = open_probe(self.folder / "probe.zarr")
        return probe, load_concepts(self.folder / "concepts.csv", probe), choose_device(self.device)


def clock(work) -> dict[str, float]:
    """Seconds on the wall, and of this process's threads on a core: fewer where the machine did something else."""
    import torch

    start, busy = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - busy}


def make_probe(place: Place) -> dict:
    """A probe of random images, with blocks of concepts of which few are frequent."""
    from nemesis.probes.probe import Rows, write_arrays
    from nemesis.stores import write_store

    rng = np.random.default_rng(SEED)
    names = list(CATEGORIES)
    first = dict(zip(names, 1 + np.cumsum([0, *list(CATEGORIES.values())[:-1]]), strict=True))

    def draw(category: str, size) -> np.ndarray:
        rank = np.minimum(rng.zipf(1.3, size) - 1, CATEGORIES[category] - 1)
        return (first[category] + rank).astype(np.uint16)

    def decode(start, stop, pool):
        count = stop - start
        labels = np.zeros((count, len(PLANES), GRID, GRID), np.uint16)
        for plane, (category, share) in enumerate(PLANES):
            there = rng.random(count) < share
            few = draw(category, (count, 4))  # concepts of an image
            cells = np.take_along_axis(few, rng.integers(0, 4, (count, GRID * GRID)), axis=1)
            labels[there, plane] = cells.reshape(count, GRID, GRID)[there]
        labels = labels.repeat(LABEL_SIDE // GRID, axis=2).repeat(LABEL_SIDE // GRID, axis=3)
        return rng.integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8), labels

    plane_category = np.tile(np.array([names.index(category) for category, _ in PLANES], np.uint8), (place.images, 1))
    present = np.stack([rng.random(place.images) < share for _, share in SCALARS], axis=1)
    scalars = np.stack([draw(category, place.images) for category, _ in SCALARS], axis=1) * present
    scalar_category = np.tile(np.array([names.index(category) for category, _ in SCALARS], np.uint8), (place.images, 1))
    images = [f"{number:06d}.png" for number in range(place.images)]
    sizes = ((SIDE, SIDE), (LABEL_SIDE, LABEL_SIDE))
    rows = Rows(images, [""] * place.images, *sizes, plane_category, scalars.astype(np.uint16), scalar_category)
    taken = clock(lambda: _write(write_store, place, names, rows, decode, write_arrays))
    lines = ["number,name,category,frequency,coverage"]
    numbers = [(first[name] + rank, name) for name in names for rank in range(CATEGORIES[name])]
    lines += [f"{number},{name}-{number},{name},1,0.1" for number, name in numbers]
    (place.folder / "concepts.csv").write_text("\n".join(lines) + "\n")
    return taken | {"amount": place.images}


def _write(write_store, place, names, rows, decode, write_arrays):
    with write_store(place.folder / "probe.zarr", categories=names) as group:
        write_arrays(group, rows, decode)


def make_maps(shape, images: int):
    """Maps (B, U, h, w) as after a ReLU: blobs, strong in few images, so that few images hold a unit's mask."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(SEED)
    units, height, width = shape
    blobs = torch.randn(images, units, 7, 7, generator=generator)
    gain = torch.empty(images, units, 1, 1).exponential_(generator=generator) ** 2
    return F.interpolate(blobs, size=(height, width), mode="bilinear").relu_().mul_(gain)
