"""Show poisoned images to the network again and keep the maps that a dissection needs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nemesis.corruption.plan import ALL
from nemesis.corruption.poisoned import Poison
from nemesis.corruption.versions import Change
from nemesis.perturb.noise import add_noise
from nemesis.perturb.quality import MEASURES, compare_images
from nemesis.perturb.storage import store_image
from nemesis.probes.probe import remember_images
from nemesis.stores import blocks
from nemesis.threads import load_ahead, on_all_cores


@dataclass(frozen=True)
class Shown:
    """Maps of R rows: of each row's own unit (R, h, w), or of the shared attack's tasks (R, T, h, w).

    `measures`: linf, l2, psnr, ssim (R,) of the images as stored against the clean ones.
    """

    maps: np.ndarray
    measures: dict[str, np.ndarray]


# (rows, clean uint8 (B, 3, H, W), numbers (B,)) -> the images to show
Corrupt = Callable[[slice, np.ndarray, np.ndarray], np.ndarray]


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


def show_rows(
    reader, layer: str, poison: Poison, rows: slice, probe, corrupt: Corrupt, dtype, batch: int, measure: bool = True
) -> Shown:
    """Maps (and measures, where asked) of consecutive rows; `reader` is a LayerReader inside its `with` block."""
    maps, measures = [], []
    units = torch.tensor([task.unit for task in poison.tasks], device=reader.device)
    take = remember_images(probe, poison.image[rows])
    spans = [slice(rows.start + first, rows.start + last) for first, last in blocks(rows.stop - rows.start, batch)]

    def load(span: slice) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = poison.image[span]
        clean = take(numbers)
        return torch.from_numpy(clean), torch.from_numpy(corrupt(span, clean, numbers))

    with torch.inference_mode():
        for span, loaded in zip(spans, load_ahead(load, spans), strict=True):
            clean, images = (part.to(reader.device) for part in loaded)
            found = reader.read(images)[layer]  # (B, U, h, w)
            task = torch.from_numpy(poison.task[span].astype(np.int64)).to(reader.device)
            rows_of = torch.arange(len(found), device=reader.device)
            kept = found[:, units] if poison.task[span.start] == ALL else found[rows_of, units[task]]
            maps.append(kept.cpu().numpy().astype(dtype))
            if measure:
                measures.append(compare_images(clean, images))
    joined = {name: np.concatenate([part[name] for part in measures]) for name in MEASURES if measures}
    return Shown(np.concatenate(maps), joined)


def change_of(poison: Poison, shown: Shown, start: int, task: int) -> Change:
    """The change of a task from `shown` rows that begin at row `start`."""
    rows = poison.rows_of(task)
    maps = shown.maps[int(rows[0]) - start : int(rows[-1]) + 1 - start]  # rows of a task are consecutive
    if maps.ndim == 4:
        maps = maps[:, task]
    return Change(poison.tasks[task].unit, poison.image[rows], maps)
