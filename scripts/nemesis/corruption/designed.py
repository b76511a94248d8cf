"""Labels of attacked units beside the clean ones and the controls, and under other ways to store images."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nemesis.corruption.attacked import AttackedLayer
from nemesis.corruption.redissect import Change, Redissected, redissect
from nemesis.corruption.shown import (
    ForwardPass,
    Shown,
    StoredAttack,
    change_of,
    poisoned_images,
    show_rows,
    unchanged_images,
)
from nemesis.corruption.targets import Task
from nemesis.perturb.poison import Poison, budget_images
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
STORAGE = ["unit", "target", "storage", "clean_iou", "label", "iou", "manipulated", "target_hit"]
STORAGE += ["control_label", "control_manipulated", *MEASURES, *(f"control_{name}" for name in MEASURES)]


@dataclass(frozen=True)
class Outcomes:
    """What is dissected of T consecutive tasks: T changes each, or what came of them.

    poisoned: with all poisoned images. fixed: the same at the clean threshold. random: with noise of the same size on
    the same images. limited: by budget, with the most influential images alone.
    """

    poisoned: Sequence[Change] | Redissected
    fixed: Sequence[Change] | Redissected
    random: Sequence[Change] | Redissected
    limited: dict[float, Sequence[Change] | Redissected]

    def parts(self) -> list:
        """One after the other."""
        return [self.poisoned, self.fixed, self.random, *self.limited.values()]


def dissect_designed(
    layer: AttackedLayer,
    forward: ForwardPass,
    attacks: list[StoredAttack],
    budgets: Sequence[float],
    keeps: Sequence[Callable],
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """The rows of designed/.../dissection.csv and budget.csv for every eps of an attack.

    `attacks` have the same tasks and images, so that clean maps are read once for all; `keeps` get the poisoned rows'
    maps, keep(first row, maps) for each of them. `budgets` are shares of the probe. See Outcomes for what is dissected.
    """
    first, found = attacks[0].poison, [([], []) for _ in attacks]
    progress = Progress("dissect", len(first.tasks))

    def dissect(tasks: range, views: list[tuple[Shown, Shown]], start: int):
        changes = [_list_changes(layer, first, tasks, view, start, budgets) for view in views]
        outcomes = _dissect_outcomes(layer, changes)
        for tables, part, outcome, (shown, _) in zip(found, changes, outcomes, views, strict=True):
            tables[0].append(_tabulate(layer, first, tasks, outcome, shown, start))
            tables[1].append(_trace_budgets(layer, first, tasks, part, outcome))
        progress.add(len(tasks))

    with forward.reader, work_behind() as do:  # the processor dissects while the network sees the next images
        for tasks in group_tasks(first, layer, len(attacks)):
            span, views = first.span_of(tasks), []
            for attack, keep in zip(attacks, keeps, strict=True):
                shown = show_rows(forward, attack.poison, span, attack.designed)
                views.append((shown, show_rows(forward, attack.poison, span, attack.random, measure=False)))
                keep(span.start, shown.maps)
            do(dissect, tasks, views, span.start)
    return [(_join(tables, COLUMNS), _join(curves, CURVE)) for tables, curves in found]


def _join(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(tables) if tables else pd.DataFrame(columns=columns)


def group_tasks(poison: Poison, layer: AttackedLayer, times: int = 1) -> list[range]:
    """Consecutive tasks whose poisoned maps, so many times, fit in memory together; a shared attack's are one group."""
    if not poison.tasks or poison.shared:
        return [range(len(poison.tasks))] if poison.tasks else []
    cells = times * int(np.prod(layer.maps.shape[2:])) * layer.maps.dtype.itemsize
    sizes = np.bincount(poison.task, minlength=len(poison.tasks)).cumsum() * cells // SHOWN_BYTES
    edges = [0, *(np.flatnonzero(np.diff(sizes)) + 1), len(poison.tasks)]
    return [range(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def _list_changes(
    layer: AttackedLayer, poison: Poison, tasks: range, view: tuple[Shown, Shown], start: int, budgets
) -> Outcomes:
    """The changes of some tasks; `view` are their poisoned rows, from row `start` on, and those under noise."""
    shown, control = view
    poisoned = [change_of(poison, shown, start, task) for task in tasks]
    ranks = [poison.rank[poison.rows_of(task)] for task in tasks]
    limited = {}
    for budget in budgets:
        most = budget_images(budget, layer.probe.count)
        limited[budget] = [
            dataclasses.replace(change, chosen=rank < most) for change, rank in zip(poisoned, ranks, strict=True)
        ]
    return Outcomes(
        poisoned,
        [dataclasses.replace(change, threshold=float(layer.thresholds[change.unit])) for change in poisoned],
        [change_of(poison, control, start, task) for task in tasks],
        limited,
    )


def _dissect_outcomes(layer: AttackedLayer, changes: list[Outcomes]) -> list[Outcomes]:
    """What came of the changes, all dissected together."""
    parts = [part for outcomes in changes for part in outcomes.parts()]
    every = redissect([change for part in parts for change in part], layer)
    ends = np.cumsum([0, *map(len, parts)])
    found = iter([every.part(slice(int(a), int(b))) for a, b in itertools.pairwise(ends)])
    return [
        Outcomes(next(found), next(found), next(found), {budget: next(found) for budget in outcomes.limited})
        for outcomes in changes
    ]


def _tabulate(
    layer: AttackedLayer, poison: Poison, tasks: range, outcome: Outcomes, shown: Shown, start: int
) -> pd.DataFrame:
    """The rows of dissection.csv of some tasks, whose poisoned rows were `shown` from row `start` on."""
    at, names, found = np.arange(len(tasks)), np.array(layer.concepts.names, object), outcome.poisoned
    number, number_fixed, number_noise = found.numbers, outcome.fixed.numbers, outcome.random.numbers
    units = [poison.tasks[task].unit for task in tasks]
    source, target = (np.array([getattr(poison.tasks[t], end) for t in tasks]) for end in ("source", "target"))
    clean = layer.table.set_index("unit").loc[units]
    rows = [poison.rows_of(task) - start for task in tasks]
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
        table[name] = [_summarise(shown, name, part) for part in rows]
    table["threshold"], table["clean_threshold"] = found.thresholds, layer.thresholds[units].astype(float)
    fixed = outcome.fixed.iou
    table["fixed_label"], table["fixed_iou"] = names[number_fixed], fixed[at, number_fixed]
    table["fixed_target_iou"] = np.where(target > 0, fixed[at, target], np.nan)
    table["fixed_manipulated"] = number_fixed != source
    table["fixed_target_hit"] = (number_fixed == target) & (target > 0)
    table["noise_label"], table["noise_iou"] = names[number_noise], outcome.random.iou[at, number_noise]
    table["noise_manipulated"] = number_noise != source
    return table[COLUMNS]


def _summarise(shown: Shown, name: str, rows: np.ndarray) -> float:
    """The largest of a task's linf, the mean of its other measures."""
    values = shown.measures[name][rows]
    return values.max() if name == "linf" else values.mean()


def _trace_budgets(
    layer: AttackedLayer, poison: Poison, tasks: range, changes: Outcomes, outcome: Outcomes
) -> pd.DataFrame:
    """Labels when only the most influential images are poisoned: one row a (unit, budget)."""
    iou, lines = layer.table.set_index("unit")["iou"], []
    numbers = {budget: found.numbers for budget, found in outcome.limited.items()}
    for (place, task), budget in itertools.product(enumerate(tasks), outcome.limited):
        of, number = poison.tasks[task], numbers[budget][place]
        hit = bool(of.target) and number == of.target
        count = changes.limited[budget][place].count
        line = (of.unit, layer.concepts.names[of.target], budget, count, iou[of.unit], layer.concepts.names[number])
        lines.append((*line, outcome.limited[budget].iou[place, number], number != of.source, hit))
    return pd.DataFrame(lines, columns=CURVE)


def compare_storages(layer: AttackedLayer, forward: ForwardPass, poison: Poison, storages: list[str]) -> pd.DataFrame:
    """The rows of designed/.../storage.csv: how much of an attack survives each way to store images.

    One row a (unit, storage): the unit's label with the attacked images, and with the clean ones stored alike.
    """
    lines = []
    with forward.reader:
        for tasks in group_tasks(poison, layer):
            span = poison.span_of(tasks)
            for storage in storages:
                attacked = show_rows(forward, poison, span, poisoned_images(poison, storage))
                control = show_rows(forward, poison, span, unchanged_images(storage))
                changes = [change_of(poison, part, span.start, task) for part in (attacked, control) for task in tasks]
                found, count = redissect(changes, layer), len(tasks)
                for place, task in enumerate(tasks):
                    of, rows = poison.tasks[task], poison.rows_of(task) - span.start
                    labels = (found.part(slice(place, place + 1)), found.part(slice(count + place, count + place + 1)))
                    measures = [_summarise(part, name, rows) for part in (attacked, control) for name in MEASURES]
                    lines.append([*_compare_labels(layer, of, storage, *labels), *measures])
    return pd.DataFrame(lines, columns=STORAGE)


def _compare_labels(layer: AttackedLayer, of: Task, storage: str, found: Redissected, control: Redissected) -> list:
    """A task's label with its attacked images, and that with the clean ones stored alike."""
    names, number, unchanged = layer.concepts.names, int(found.numbers[0]), int(control.numbers[0])
    clean_iou = layer.table.loc[layer.table["unit"] == of.unit, "iou"].item()
    line = [of.unit, names[of.target], storage, clean_iou, names[number], found.iou[0, number]]
    line += [number != of.source, bool(of.target) and number == of.target]
    return [*line, names[unchanged], unchanged != of.source]
