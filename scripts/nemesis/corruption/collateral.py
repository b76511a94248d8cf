"""What else the poisoned images change: the other units of the layer, and the network's own predictions."""

import numpy as np
import pandas as pd
import torch

from nemesis.corruption.attacked import AttackedLayer
from nemesis.corruption.redissect import Change, redissect
from nemesis.corruption.shown import Corrupt, ForwardPass, StoredAttack, corrupt_rows
from nemesis.models.predictions import ClassMap, top_classes
from nemesis.progress import Progress

COLUMNS = ["unit", "target", "n_poisoned", "others", "others_changed", "noise_others_changed"]
COLUMNS += ["top1_changed", "noise_top1_changed", "clean_accuracy", "accuracy"]


def measure_collateral(
    layer: AttackedLayer,
    forward: ForwardPass,
    attack: StoredAttack,
    classifies: bool = True,
    classes: ClassMap | None = None,
) -> pd.DataFrame:
    """One row a unit (one in all for a shared attack, unit -1).

    `others`: units of the layer that were not attacked and have a label; `others_changed` of them are
    called something else because of the unit's poisoned images, `noise_others_changed` because of
    bernoulli noise of the same size on these. `top1_changed`: poisoned images whose most likely class
    changed; empty where the network does not end in classes (`classifies`). `classes` say what its outputs
    stand for, where that is known: then the accuracies are the shares of the poisoned images of the most likely one.
    """
    poison = attack.poison
    progress, lines = Progress("collateral", len(poison.tasks)), []
    for index, task in enumerate(poison.tasks[:1] if poison.shared else poison.tasks):
        span = poison.span_of([index])
        spared = {of.unit for of in poison.tasks} if poison.shared else {task.unit}
        labelled = layer.table[(layer.table["iou"] >= layer.settings["min_iou"]) & ~layer.table["unit"].isin(spared)]
        unit = -1 if poison.shared else task.unit
        line = [unit, layer.concepts.names[task.target], span.stop - span.start, len(labelled)]
        line += _count_changed(layer, forward, attack, span, labelled)
        line += _compare_classes(forward, attack, span, classes) if classifies else [None] * 4
        lines.append(line)
        progress.add(1)
    return pd.DataFrame(lines, columns=COLUMNS)


def _count_changed(
    layer: AttackedLayer, forward: ForwardPass, attack: StoredAttack, span: slice, labelled: pd.DataFrame
) -> list[int]:
    """How many of the labelled units change their label under the design and under noise of the span's images."""
    corruptions = (attack.designed, attack.random)
    if not len(labelled):
        return [0] * len(corruptions)
    units, image = labelled["unit"].to_list(), attack.poison.image[span]
    changes = []
    for corrupt in corruptions:
        maps = _show_units(forward, attack, span, corrupt, units)  # (P, U', h, w)
        changes += [Change(unit, image, maps[:, place]) for place, unit in enumerate(units)]
    numbers = redissect(changes, layer).numbers.reshape(len(corruptions), -1)
    return (numbers != labelled["number"].to_numpy()).sum(axis=1).tolist()


def _show_units(forward: ForwardPass, attack: StoredAttack, span: slice, corrupt: Corrupt, units) -> np.ndarray:
    """Maps of some units on the corrupted images of a span, (P, U', h, w)."""
    wanted, maps = torch.tensor(units, device=forward.reader.device), []
    with forward.reader as reader, torch.inference_mode():
        for images in corrupt_rows(attack.poison, forward.probe, span, corrupt, forward.batch):
            found = reader.read(torch.from_numpy(images))[forward.layer][:, wanted]
            maps.append(found.cpu().numpy().astype(forward.dtype))
    return np.concatenate(maps)


def _compare_classes(forward: ForwardPass, attack: StoredAttack, span: slice, classes: ClassMap | None) -> list:
    """Poisoned images whose top-1 class changed, by design and by noise, and accuracy before and after."""

    def find_classes(corrupt: Corrupt) -> np.ndarray:
        images = corrupt_rows(attack.poison, forward.probe, span, corrupt, forward.batch)
        return top_classes(forward.reader.network, images)

    clean = find_classes(lambda rows, images, numbers: images)
    attacked, random = find_classes(attack.designed), find_classes(attack.random)
    counts = [int((clean != attacked).sum()), int((clean != random).sum())]
    if classes is None:
        return [*counts, None, None]
    image = attack.poison.image[span]
    return [*counts, *(float(classes.check(forward.probe, image, top).mean()) for top in (clean, attacked))]
