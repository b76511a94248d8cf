"""Minimum epsilon (Eq. 6 of Srivastava et al., ICCV 2023): the smallest eps that changes a unit's label.

The paper poses this problem and solves Eq. 9 at given sizes. Here each unit's eps is bisected on
whole steps of 1/255 (8-bit images know no others); the units of a round are attacked together.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from nemesis.corruption.attack import attack_rows
from nemesis.corruption.attacked import AttackedLayer
from nemesis.corruption.plan import Plan, Subject, select_tasks
from nemesis.corruption.redissect import Change, redissect
from nemesis.corruption.targets import Task
from nemesis.models.network import LayerReader
from nemesis.perturb.pgd import round_inside

COLUMNS = ["unit", "clean_label", "clean_category", "clean_iou", "margin", "minimum_epsilon", "unchanged_epsilon"]
COLUMNS += ["label", "attacks"]


@dataclass
class Bracket:
    """A unit's label is unchanged at `low` (0 = clean) and changed to concept `label` at `high` (None: not yet).

    `highest` is the largest eps to try; all are in 1/255.
    """

    highest: int
    low: int = 0
    high: int | None = None
    label: str = ""
    attacks: int = 0

    @property
    def next_eps(self) -> int | None:
        """The eps to try next; None when the bracket is closed or `highest` is not enough."""
        if self.high is None:
            return self.highest if self.low < self.highest else None
        return (self.low + self.high) // 2 if self.high - self.low > 1 else None

    def note(self, eps: int, changed: bool, label: str):
        """Narrow the bracket with an outcome; one that contradicts a narrower bracket is ignored."""
        if changed and (self.high is None or eps < self.high):
            self.high, self.label = eps, label
        elif not changed and eps > self.low and (self.high is None or eps < self.high):
            self.low = eps


def open_brackets(tasks: list[Task], known: dict[int, pd.DataFrame], highest: int) -> list[Bracket]:
    """A bracket a task up to `highest`; `known` are dissection.csv tables at whole eps, tried already."""
    brackets = [Bracket(highest) for _ in tasks]
    for eps in sorted(known, reverse=True):
        rows = known[eps].set_index("unit")
        for task, bracket in zip(tasks, brackets, strict=True):
            bracket.note(eps, bool(rows.at[task.unit, "manipulated"]), rows.at[task.unit, "label"])
    return brackets


def find_minimum(
    layer: AttackedLayer, subject: Subject, plan: Plan, attack, batch: int, brackets: list[Bracket]
) -> pd.DataFrame:
    """Bisect every task's eps until its bracket is closed: the rows of designed/minimum_epsilon-....csv.

    `attack` is a UnitPGD or UnitFGSM, `batch` the rows that it attacks at once.
    """
    while True:
        tries = [bracket.next_eps for bracket in brackets]
        open_tasks = np.array([eps is not None for eps in tries])
        if not open_tasks.any():
            return _tabulate(layer, plan, brackets)
        eps = np.array([eps or 0 for eps in tries])
        changes = _attack_round(subject, select_tasks(plan, open_tasks), attack, eps, batch)
        numbers = redissect(list(changes.values()), layer).numbers
        for index, number in zip(changes, numbers, strict=True):
            source = plan.tasks[index].source
            brackets[index].note(int(eps[index]), number != source, layer.concepts.names[number])
            brackets[index].attacks += 1


def _attack_round(subject: Subject, plan: Plan, attack, eps: np.ndarray, batch: int) -> dict[int, Change]:
    """Changes of the plan's tasks, each attacked with eps[task] and stored without loss."""
    maps, device = [], attack.reader.device
    unit_of = np.array([task.unit for task in plan.tasks])
    padded = LayerReader(attack.reader.network, [attack.layer], device, pad_to=batch)
    attacked = attack_rows(attack, plan, subject, eps[plan.task], batch)
    while True:
        with attack.reader:
            step = next(attacked, None)
        if step is None:
            break
        rows, clean, images = step
        stored = (clean + round_inside(clean, images, eps[plan.task[rows]])).astype(np.uint8)
        units = torch.from_numpy(unit_of[plan.task[rows]]).to(device)
        with padded, torch.inference_mode():
            for first in range(0, len(stored), batch):
                found = padded.read(torch.from_numpy(stored[first : first + batch]))[attack.layer]
                kept = found[torch.arange(len(found), device=device), units[first : first + batch]]
                maps.append(kept.cpu().numpy().astype(subject.maps.dtype))
    joined = np.concatenate(maps)
    return {
        int(task): Change(plan.tasks[task].unit, plan.image[plan.task == task], joined[plan.task == task])
        for task in np.unique(plan.task)
    }


def _tabulate(layer: AttackedLayer, plan: Plan, brackets: list[Bracket]) -> pd.DataFrame:
    clean = layer.table.set_index("unit")
    lines = []
    for task, bracket in zip(plan.tasks, brackets, strict=True):
        row = clean.loc[task.unit]
        line = [task.unit, row["label"], row["category"], row["iou"], row["iou"] - row["iou_2"]]
        found = np.nan if bracket.high is None else bracket.high
        lines.append([*line, found, bracket.low, bracket.label, bracket.attacks])
    return pd.DataFrame(lines, columns=COLUMNS)
