"""How much of an attack survives how the images are stored, beside what the storage does alone."""

import numpy as np
import pandas as pd

from nemesis.corruption.designed import group_tasks
from nemesis.corruption.layer import Layer
from nemesis.corruption.poisoned import Poison
from nemesis.corruption.rows import change_of, poisoned_images, show_rows, unchanged_images
from nemesis.perturb.quality import MEASURES

COLUMNS = ["unit", "target", "storage", "clean_iou", "label", "iou", "manipulated", "target_hit"]
COLUMNS += ["control_label", "control_manipulated", *MEASURES, *(f"control_{name}" for name in MEASURES)]


def compare_storages(layer: Layer, poison: Poison, reader, storages: list[str], batch: int) -> pd.DataFrame:
    """One row a (unit, storage): the unit's label with the attacked images, and with the clean ones stored alike."""
    lines = []
    options = {"dtype": layer.maps.dtype, "batch": batch}
    for tasks in group_tasks(poison, layer):
        rows = np.concatenate([poison.rows_of(task) for task in tasks])
        span = slice(int(rows.min()), int(rows.max()) + 1)
        for storage in storages:
            shown = [
                show_rows(reader, layer.name, poison, span, layer.probe, corrupt, **options)
                for corrupt in (poisoned_images(poison, storage), unchanged_images(storage))
            ]
            changes = [change_of(poison, part, span.start, task) for part in shown for task in tasks]
            found = layer.redissect(changes)
            for place, task in enumerate(tasks):
                lines.append(_line(layer, poison, task, storage, shown, found, place, len(tasks), span.start))
    return pd.DataFrame(lines, columns=COLUMNS)


def _line(layer: Layer, poison: Poison, task: int, storage: str, shown, found, place: int, count: int, start: int):
    of, names = poison.tasks[task], layer.concepts.names
    number, control = int(found.numbers[place]), int(found.numbers[count + place])
    clean_iou = layer.table.loc[layer.table["unit"] == of.unit, "iou"].item()
    line = [of.unit, names[of.target], storage, clean_iou, names[number], found.iou[place, number]]
    line += [number != of.source, bool(of.target) and number == of.target, names[control], control != of.source]
    rows = poison.rows_of(task) - start
    for part in shown:
        line += [
            part.measures[name][rows].max() if name == "linf" else part.measures[name][rows].mean() for name in MEASURES
        ]
    return line
