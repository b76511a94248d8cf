"""A tiny network, its maps stored on a probe, and a probe in memory, for the tests of designed corruption."""

import dataclasses
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
import zarr

from nemesis import stores
from nemesis.corruption.plan import EMPTY, Plan, select_tasks
from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images
from nemesis.dissection.stored import StoredMaps, open_maps
from nemesis.models.network import LayerReader, Network
from nemesis.perturb.poison import ALL
from nemesis.probes.probe import Regions, find_regions

LAYER, UNITS = "2", 5
MEAN, STD = (0.4, 0.5, 0.6), (0.3, 0.2, 0.25)


def tiny_network(exact: bool = False) -> Network:
    """Two convolutions; `exact`: weights -1, 0 and 1, so that float32 makes no error on pixels k / 256."""
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(4, UNITS, 3, stride=3),
        torch.nn.Flatten(),
    )
    for values in module.parameters():
        if exact:
            values.data = torch.randint(-1, 2, values.shape, generator=generator).float()
        else:
            values.data = 0.3 * torch.randn(values.shape, generator=generator)
    return Network("tiny", module, *(((0, 0, 0), (1, 1, 1)) if exact else (MEAN, STD)))


def tiny_reader(exact: bool = False, **options) -> LayerReader:
    """A reader of the tiny network's last convolution, for a `with` block."""
    return LayerReader(tiny_network(exact), [LAYER], "cpu", **options)


def store_maps(probe, path, dtype: str = "float16", block: int = 5):
    """The tiny network's maps (UNITS, N, 10, 10) of a probe of 32-pixel images, stored by `block` images."""
    with mock.patch.object(stores, "MAX_BLOCK", block), tiny_reader() as reader:
        extract_activations(reader.read, probe_images(probe), path, ExtractionSettings(7, dtype=dtype))
    maps = open_maps(path, LAYER)
    assert maps.block == block
    return maps


def hold_maps(maps: np.ndarray, block: int = 5) -> StoredMaps:
    """Maps (U, N, h, w) in memory, as if stored by `block` images."""
    array = zarr.create_array({}, data=maps, chunks=(2, block, *maps.shape[2:]))
    return StoredMaps(array, maps.max(axis=(2, 3)), np.arange(maps.shape[1]))


@dataclass(frozen=True)
class ArrayProbe:
    """Labels in memory: planes (N, K, Hs, Ws) and image-level labels (N, S)."""

    planes: np.ndarray
    scalars: np.ndarray

    @property
    def count(self) -> int:
        return len(self.planes)

    def labels(self, start: int, stop: int) -> np.ndarray:
        return self.planes[start:stop]

    def take_labels(self, numbers) -> np.ndarray:
        return self.planes[numbers]

    def take_regions(self, numbers) -> Regions:
        return find_regions(self.planes[numbers])


def take_shard(plan: Plan, shard: int, shards: int) -> Plan:
    """The plan of a shard: that of a consecutive part of the tasks."""
    if shards == 1 or not plan.tasks:
        return plan
    if (plan.task == ALL).any():
        return plan if shard == 0 else EMPTY
    chosen = np.array_split(np.arange(len(plan.tasks)), shards)[shard]
    if not len(chosen):
        return EMPTY
    part = select_tasks(plan, np.isin(np.arange(len(plan.tasks)), chosen))
    kept = slice(int(chosen[0]), int(chosen[-1]) + 1)
    return dataclasses.replace(part, tasks=plan.tasks[kept], scale=plan.scale[kept], task=part.task - kept.start)
