"""Labels of attacked units, beside the clean ones and the controls."""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

from nemesis.corruption.layer import Layer
from nemesis.corruption.plan import ALL, budget_images
from nemesis.corruption.poisoned import Poison
from nemesis.corruption.rows import Shown, change_of, poisoned_images, random_images, show_rows
from nemesis.perturb.quality import MEASURES
from nemesis.progress import Progress
from nemesis.threads import work_behind

SHOWN_BYTES = 2**27  # maps of poisoned images held at once
COLUMNS = ["unit", "clean_label", "clean_category", "clean_iou", "margin", "source", "target", "target_unit", "label"]
COLUMNS += ["category", "iou", "source_iou", "target_iou", "manipulated", "target_hit", "n_poisoned"]
COLUMNS += ["fraction_poisoned", *MEASURES, "threshold", "clean_threshold", "fixed_label", "fixed_iou"]
COLUMNS += ["fixed_target_iou", "fixed_manipulated", "fixed_target_hit"]
COLUMNS += ["noise_label", "noise_iou", "noise_manipulated"]
CURVE = ["unit", "target", "budget", "n_poisoned", "clean_iou", "label", "iou", "manipulated", "target_hit"]


def dissect_designed(
    layer: Layer, poisons: list[Poison], reader, storage: str, budgets, seed: int, batch: int, keeps: list[Callable]
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """The rows of designed/.../dissection.csv and budget.csv for every eps of an attack.

    `poisons` have the same tasks and images, so that clean maps are read once for all; `keeps` get the poisoned rows'
    maps, keep(first row, maps) for each of them. Four dissections a unit: all poisoned images, the same at the
    clean threshold, bernoulli noise of the same size on the same images, and one for every budget (a share of the
    probe).
    """
    noises = [random_images(poison.attrs["eps"], seed, storage) for poison in poisons]
    first, found = poisons[0], [([], []) for _ in poisons]
    progress = Progress("dissect", len(first.tasks))

    def dissect(tasks: range, seen: list[tuple[Shown, Shown]], start: int):
        lists = [_list_changes(layer, first, tasks, *shown, start, budgets) for shown in seen]
        every = layer.redissect([change for changes in lists for change in changes])
        for place, (changes, (shown, _)) in enumerate(zip(lists, seen, strict=True)):
            again = every.part(slice(place * len(changes), (place + 1) * len(changes)))
            found[place][0].append(_tabulate(layer, first, tasks, shown, again, start))
            found[place][1].append(_trace_budgets(layer, first, tasks, changes, again, budgets))
        progress.add(len(tasks))

    with work_behind() as do:  # the processor dissects while the network sees the next images
        for tasks in group_tasks(first, layer, len(poisons)):
            rows = np.concatenate([first.rows_of(task) for task in tasks])
            span, seen = slice(int(rows.min()), int(rows.max()) + 1), []
            for poison, noise, keep in zip(poisons, noises, keeps, strict=True):
                arguments = (reader, layer.name, poison, span, layer.probe)
                options = {"dtype": layer.maps.dtype, "batch": batch}
                shown = show_rows(*arguments, poisoned_images(poison, storage), **options)
                seen.append((shown, show_rows(*arguments, noise, **options, measure=False)))
                keep(span.start, shown.maps)
            do(dissect, tasks, seen, span.start)
    return [(_join(tables, COLUMNS), _join(curves, CURVE)) for tables, curves in found]


def _join(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(tables) if tables else pd.DataFrame(columns=columns)


def group_tasks(poison: Poison, layer: Layer, times: int = 1) -> list[range]:
    """Consecutive tasks whose poisoned maps, so many times, fit in memory together; a shared attack's are one group."""
    if not poison.tasks or (poison.task == ALL).any():
        return [range(len(poison.tasks))] if poison.tasks else []
    cells = times * int(np.prod(layer.maps.shape[2:])) * layer.maps.dtype.itemsize
    sizes = np.bincount(poison.task, minlength=len(poison.tasks)).cumsum() * cells // SHOWN_BYTES
    edges = [0, *(np.flatnonzero(np.diff(sizes)) + 1), len(poison.tasks)]
    return [range(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def _list_changes(layer: Layer, poison: Poison, tasks, shown: Shown, control: Shown, start: int, budgets):
    """What is dissected of T tasks: all poisoned images, the same at the clean threshold, noise (T each); budgets."""
    changes = [change_of(poison, shown, start, task) for task in tasks]
    found = [*changes]
    found += [dataclasses.replace(change, threshold=float(layer.thresholds[change.unit])) for change in changes]
    found += [change_of(poison, control, start, task) for task in tasks]
    limits = [budget_images(budget, layer.probe.count) for budget in budgets]
    for task, change in zip(tasks, changes, strict=True):
        rank = poison.rank[poison.rows_of(task)]
        found += [dataclasses.replace(change, chosen=rank < limit) for limit in limits]
    return found


def _tabulate(layer: Layer, poison: Poison, tasks, shown: Shown, found, start: int) -> pd.DataFrame:
    count, names = len(tasks), np.array(layer.concepts.names, object)
    number, number_fixed, number_noise = found.numbers[: 3 * count].reshape(3, count)
    units = [poison.tasks[task].unit for task in tasks]
    source, target = (np.array([getattr(poison.tasks[t], end) for t in tasks]) for end in ("source", "target"))
    clean = layer.table.set_index("unit").loc[units]
    rows = [poison.rows_of(task) - start for task in tasks]
    at = np.arange(count)
    table = pd.DataFrame({"unit": units})
    table["clean_label"], table["clean_category"] = clean["label"].to_numpy(), clean["category"].to_numpy()
    table["clean_iou"], table["margin"] = clean["iou"].to_numpy(), (clean["iou"] - clean["iou_2"]).to_numpy()
    table["source"], table["target"] = names[source], names[target]
    table["target_unit"] = [poison.tasks[task].target_unit for task in tasks]
    table["label"], table["category"] = names[number], [layer.concepts.category(n) for n in number]
    table["iou"] = found.iou[at, number]
    table["source_iou"] = found.iou[at, source]
    table["target_iou"] = np.where(target > 0, found.iou[at, target], np.nan)
    table["manipulated"], table["target_hit"] = number != source, (number == target) & (target > 0)
    table["n_poisoned"] = [len(part) for part in rows]
    table["fraction_poisoned"] = table["n_poisoned"] / layer.probe.count
    for name in MEASURES:
        measured = [shown.measures[name][part] for part in rows]
        table[name] = [part.max() if name == "linf" else part.mean() for part in measured]
    table["threshold"], table["clean_threshold"] = found.thresholds[:count], layer.thresholds[units].astype(float)
    table["fixed_label"], table["fixed_iou"] = names[number_fixed], found.iou[count + at, number_fixed]
    table["fixed_target_iou"] = np.where(target > 0, found.iou[count + at, target], np.nan)
    table["fixed_manipulated"] = number_fixed != source
    table["fixed_target_hit"] = (number_fixed == target) & (target > 0)
    table["noise_label"], table["noise_iou"] = names[number_noise], found.iou[2 * count + at, number_noise]
    table["noise_manipulated"] = number_noise != source
    return table[COLUMNS]


def _trace_budgets(layer: Layer, poison: Poison, tasks, changes, found, budgets) -> pd.DataFrame:
    """Labels when only the most influential images are poisoned: one row a (unit, budget)."""
    iou, lines, numbers = layer.table.set_index("unit")["iou"], [], found.numbers
    for place, (task, budget) in enumerate(itertools.product(tasks, budgets)):
        of, index = poison.tasks[task], 3 * len(tasks) + place
        number = numbers[index]
        hit = bool(of.target) and number == of.target
        line = (of.unit, layer.concepts.names[of.target], budget, changes[index].count, iou[of.unit])
        lines.append((*line, layer.concepts.names[number], found.iou[index, number], number != of.source, hit))
    return pd.DataFrame(lines, columns=CURVE)
