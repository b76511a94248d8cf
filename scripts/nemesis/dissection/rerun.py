"""The maps of a streamed layer once more: the network runs again on the images, as it did when they were counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from nemesis.devices import PROCESSOR, choose_batch, choose_device
from nemesis.dissection.extract import ImageSource, probe_images
from nemesis.dissection.stored import StreamedMaps
from nemesis.models.network import LayerReader, Network
from nemesis.models.registry import build_network


@dataclass(frozen=True)
class Recipe:
    """How a model is run: `spec` is its entry in the config, `batch` and `device` are the config's."""

    model: str
    spec: Mapping
    weights: Path
    dtype: str
    batch: str | int
    device: str

    @cached_property
    def network(self) -> Network:
        return build_network(self.model, self.spec, self.weights)


@dataclass(frozen=True)
class Rerun:
    """Maps of consecutive images of a source, by layer: what `open_maps` takes. `size` is that of the images."""

    recipe: Recipe
    source: ImageSource
    size: tuple[int, int]

    @cached_property
    def device(self) -> torch.device:
        return choose_device(self.recipe.device)

    @cached_property
    def batch(self) -> int:
        """Images in a forward pass, as in the extraction."""
        return choose_batch(self.recipe.batch, self.size, self.device)

    @cached_property
    def readers(self) -> dict[str, LayerReader]:
        return {}

    def __call__(self, layer: str, start: int, stop: int) -> np.ndarray:
        """Maps of images start ... stop of the source, at most a batch, (U, B, h, w) as they were counted."""
        if layer not in self.readers:
            self.readers[layer] = LayerReader(self.recipe.network, [layer], self.device, pad_to=self.batch)
        images = torch.from_numpy(self.source.load(start, stop)).to(self.device)
        with self.readers[layer] as reader, torch.inference_mode():
            maps = reader.read(images)[layer]  # (B, U, h, w)
        return maps.transpose(0, 1).to(getattr(torch, self.recipe.dtype)).contiguous().cpu().numpy()


def counting_device(maps, recipe: Recipe | None) -> torch.device:
    """Where masks of a layer's maps are counted: where the maps are, which only a network brings to a GPU."""
    return choose_device(recipe.device) if recipe and isinstance(maps, StreamedMaps) else PROCESSOR


def rerun_probe(recipe: Recipe, probe) -> Rerun:
    """The clean probe's maps."""
    return Rerun(recipe, probe_images(probe), probe.size)
