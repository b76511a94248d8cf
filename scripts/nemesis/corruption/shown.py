"""Show corrupted images to the network again and keep the maps that a dissection needs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nemesis.corruption.redissect import Change
from nemesis.corruption.targets import Task
from nemesis.devices import choose_batch
from nemesis.models.network import LayerReader, Network
from nemesis.perturb.noise import add_noise
from nemesis.perturb.poison import ALL, Poison, open_poison
from nemesis.perturb.quality import MEASURES, compare_images
from nemesis.perturb.storage import store_image
from nemesis.probes.probe import Probe, remember_images
from nemesis.stores import blocks
from nemesis.threads import load_ahead, on_all_cores

# (rows, clean uint8 (B, 3, H, W), numbers (B,)) -> the images to show
Corrupt = Callable[[slice, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ForwardPass:
    """How images of a probe pass through a network: up to `layer`, `batch` at once, maps kept as `dtype`.

    `reader` is a LayerReader that was made with the layer's name.
    """

    reader: LayerReader
    layer: str
    probe: Probe
    batch: int
    dtype: np.dtype


@dataclass(frozen=True)
class StoredAttack:
    """A stored attack: `designed` gives its images, `random` the same under bernoulli noise of its eps."""

    poison: Poison
    designed: Corrupt
    random: Corrupt


@dataclass(frozen=True)
class Shown:
    """Maps of R rows: of each row's own unit (R, h, w), or of the shared attack's tasks (R, T, h, w).

    `measures`: linf, l2, psnr, ssim (R,) of the images as stored against the clean ones.
    """

    maps: np.ndarray
    measures: dict[str, np.ndarray]


def prepare_pass(layer, network: Network, batch: str | int, pad: bool) -> ForwardPass:
    """The pass up to a layer, which has `name`, `probe`, `maps` and `device`; `batch` is the config's batch_size.

    `pad` fills the last batch, so that its size is the same.
    """
    size = choose_batch(batch, layer.probe.size, layer.device)
    reader = LayerReader(network, [layer.name], layer.device, pad_to=size if pad else 0)
    return ForwardPass(reader, layer.name, layer.probe, size, layer.maps.dtype)


def open_attack(path, storage: str, seed: int) -> StoredAttack:
    """Open a poison.zarr; its images, and noise drawn with the seed, as they are read back from `storage`."""
    poison = open_poison(path, Task)
    return StoredAttack(poison, poisoned_images(poison, storage), random_images(poison.attrs["eps"], seed, storage))


def poisoned_images(poison: Poison, storage: str) -> Corrupt:
    """The designed corruption as it is read back from `storage`."""
    return lambda rows, clean, numbers: poison.stored(rows, clean, storage)


def unchanged_images(storage: str) -> Corrupt:
    """The storage alone: eps = 0."""
    store_all = on_all_cores(lambda image: store_image(image.astype(np.float32) / np.float32(255), storage))
    return lambda rows, clean, numbers: np.stack(store_all(clean))


def random_images(eps: float, seed: int, storage: str) -> Corrupt:
    """Bernoulli noise of size eps (in 1/255) on the same images, stored the same way."""

    @on_all_cores
    def corrupt(image: np.ndarray, number: int) -> np.ndarray:
        return store_image(add_noise(image, "bernoulli", eps / 255, seed, int(number)), storage)

    return lambda rows, clean, numbers: np.stack(corrupt(clean, numbers))


def corrupt_rows(poison: Poison, probe: Probe, rows: slice, corrupt: Corrupt, batch: int):
    """The corrupted images of consecutive rows, batch by batch."""
    for first, last in blocks(rows.stop - rows.start, batch):
        part = slice(rows.start + first, rows.start + last)
        numbers = poison.image[part]
        yield corrupt(part, probe.take_images(numbers), numbers)


def show_rows(forward: ForwardPass, poison: Poison, rows: slice, corrupt: Corrupt, measure: bool = True) -> Shown:
    """Maps (and measures, where asked) of consecutive rows; the pass's reader is inside its `with` block."""
    reader, maps, measures = forward.reader, [], []
    units = torch.tensor([task.unit for task in poison.tasks], device=reader.device)
    take = remember_images(forward.probe, poison.image[rows])
    parts = blocks(rows.stop - rows.start, forward.batch)
    spans = [slice(rows.start + first, rows.start + last) for first, last in parts]

    def load(span: slice) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = poison.image[span]
        clean = take(numbers)
        return torch.from_numpy(clean), torch.from_numpy(corrupt(span, clean, numbers))

    with torch.inference_mode():
        for span, loaded in zip(spans, load_ahead(load, spans), strict=True):
            clean, images = (part.to(reader.device) for part in loaded)
            found = reader.read(images)[forward.layer]  # (B, U, h, w)
            task = torch.from_numpy(poison.task[span].astype(np.int64)).to(reader.device)
            rows_of = torch.arange(len(found), device=reader.device)
            kept = found[:, units] if poison.task[span.start] == ALL else found[rows_of, units[task]]
            maps.append(kept.cpu().numpy().astype(forward.dtype))
            if measure:
                measures.append(compare_images(clean, images))
    joined = {name: np.concatenate([part[name] for part in measures]) for name in MEASURES if measures}
    return Shown(np.concatenate(maps), joined)


def change_of(poison: Poison, shown: Shown, start: int, task: int) -> Change:
    """The change of a task from `shown` rows that begin at row `start`."""
    span = poison.span_of([task])
    maps = shown.maps[span.start - start : span.stop - start]
    if maps.ndim == 4:
        maps = maps[:, task]
    return Change(poison.tasks[task].unit, poison.image[span], maps)
