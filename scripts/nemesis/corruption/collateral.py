"""What else the poisoned images change: the other units of the layer, and the network's own predictions."""

import numpy as np
import pandas as pd
import torch

from nemesis.corruption.classes import contains_class, top_classes
from nemesis.corruption.layer import Layer
from nemesis.corruption.plan import ALL
from nemesis.corruption.poisoned import Poison
from nemesis.corruption.rows import Corrupt, poisoned_images, random_images
from nemesis.corruption.versions import Change
from nemesis.progress import Progress
from nemesis.stores import blocks

COLUMNS = ["unit", "target", "n_poisoned", "others", "others_changed", "noise_others_changed"]
COLUMNS += ["top1_changed", "noise_top1_changed", "clean_accuracy", "accuracy"]


def measure_collateral(
    layer: Layer, poison: Poison, reader, storage: str, seed: int, batch: int, classes: np.ndarray | None = None
) -> pd.DataFrame:
    """One row a unit (one in all for a shared attack, unit -1).

    `others`: units of the layer that were not attacked and have a label; `others_changed` of them are
    called something else because of the unit's poisoned images, `noise_others_changed` because of
    bernoulli noise of the same size on these. `top1_changed`: poisoned images whose most likely class
    changed; empty for a network that ends without classes. `classes` (C,) are the concept numbers of
    the network's outputs where these are concepts of the probe: then the accuracies are the shares
    of the poisoned images that contain the most likely one.
    """
    noise = random_images(poison.attrs["eps"], seed, storage)
    shared = bool((poison.task == ALL).any())
    progress, lines = Progress("collateral", len(poison.tasks)), []
    for index, task in enumerate(poison.tasks[:1] if shared else poison.tasks):
        rows = poison.rows_of(index)
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        spared = {of.unit for of in poison.tasks} if shared else {task.unit}
        labelled = layer.table[(layer.table["iou"] >= layer.settings["min_iou"]) & ~layer.table["unit"].isin(spared)]
        corruptions = (poisoned_images(poison, storage), noise)
        designed, control = _count_changed(layer, poison, reader, span, corruptions, labelled, batch)
        line = [-1 if shared else task.unit, layer.concepts.names[task.target], len(rows), len(labelled)]
        lines.append(
            [*line, designed, control, *_compare_classes(layer, poison, reader, span, storage, noise, batch, classes)]
        )
        progress.add(1)
    return pd.DataFrame(lines, columns=COLUMNS)


def _count_changed(layer: Layer, poison: Poison, reader, span: slice, corruptions, labelled, batch: int) -> list[int]:
    """How many of the labelled units change their label under each corruption of the span's images."""
    if not len(labelled):
        return [0] * len(corruptions)
    units = torch.tensor(labelled["unit"].to_list(), device=layer.device)
    changes = []
    for corrupt in corruptions:
        maps = []
        with reader, torch.inference_mode():
            for images in _corrupted(layer, poison, span, corrupt, batch):
                found = reader.read(torch.from_numpy(images))[layer.name][:, units]
                maps.append(found.cpu().numpy().astype(layer.maps.dtype))
        joined = np.concatenate(maps)  # (P, U', h, w)
        changes += [
            Change(int(unit), poison.image[span], joined[:, place]) for place, unit in enumerate(units.tolist())
        ]
    numbers = layer.redissect(changes).numbers.reshape(len(corruptions), -1)
    return (numbers != labelled["number"].to_numpy()).sum(axis=1).tolist()


def _corrupted(layer: Layer, poison: Poison, span: slice, corrupt: Corrupt, batch: int):
    for first, last in blocks(span.stop - span.start, batch):
        rows = slice(span.start + first, span.start + last)
        numbers = poison.image[rows]
        yield corrupt(rows, layer.probe.take_images(numbers), numbers)


def _compare_classes(layer: Layer, poison: Poison, reader, span, storage, noise, batch, classes):
    """Poisoned images whose top-1 class changed, by design and by noise, and accuracy before and after."""
    clean = top_classes(reader, _corrupted(layer, poison, span, lambda rows, images, numbers: images, batch))
    if clean is None:
        return None, None, None, None
    attacked = top_classes(reader, _corrupted(layer, poison, span, poisoned_images(poison, storage), batch))
    random = top_classes(reader, _corrupted(layer, poison, span, noise, batch))
    counts = [int((clean != attacked).sum()), int((clean != random).sum())]
    if classes is None:
        return *counts, None, None
    right = [contains_class(layer.probe, poison.image[span], classes[top]).mean() for top in (clean, attacked)]
    return *counts, *map(float, right)
