"""What each attacked unit is to be called: nothing in particular, a concept, or what another unit is called."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nemesis.errors import InputError

STREAM = 0x74617267
NO_UNIT = -1


@dataclass(frozen=True)
class Task:
    """One unit to attack: its clean label `source`, and what it is to become (concept numbers; 0 = none).

    `target_unit` is the unit whose clean masks are the target's (`baseline` masks); -1 = none.
    """

    unit: int
    source: int
    target: int = 0
    target_unit: int = NO_UNIT


@dataclass(frozen=True)
class Aim:
    """What an attack is to do.

    mode: untargeted, targeted or shared. masks: segmentation or baseline. targets: `random`, or a list of
    {category, name}. objective: see plan.Subject. max_fraction: of the probe's images, the most that are poisoned.
    seed: of what is drawn.
    """

    mode: str
    masks: str
    targets: str | list[dict] = "random"
    objective: str = "equation7"
    max_fraction: float = 0.1
    seed: int = 0


def choose_tasks(
    units: Iterable[int], clean: pd.DataFrame, concepts: list[dict], aim: Aim, layer: str, min_iou: float = 0.0
) -> list[Task]:
    """The tasks of a layer, in the order of units.

    `clean` is the layer's dissection table with `dead` (bool) beside it, `concepts` the rows of
    concepts.csv. Listed targets give every (unit, target) pair of different concepts. With
    `baseline` masks the target is a unit, drawn among those whose IoU is at least `min_iou` and whose
    label differs. Raises InputError for a unit that is dead or has no label, and for a target that
    does not occur in the probe or equals the one source.
    """
    tasks = []
    rows = clean.set_index("unit")
    for unit in map(int, units):
        source = int(rows.at[unit, "number"])
        _check_unit(rows, unit, source, layer)
        if aim.mode != "targeted":
            tasks.append(Task(unit, source))
        elif aim.masks == "baseline":
            tasks.append(_draw_unit(rows, unit, source, _stream(aim.seed, layer, unit), layer, min_iou))
        elif aim.targets == "random":
            tasks.append(_draw_concept(concepts, unit, source, _stream(aim.seed, layer, unit)))
        else:
            found = list(dict.fromkeys(find_concept(concepts, target) for target in aim.targets))
            _check_target(found, source, unit, layer, rows.at[unit, "label"])
            tasks += [Task(unit, source, number) for number in found if number != source]
    return tasks


def find_concept(concepts: list[dict], target: dict) -> int:
    """Number of a target named by category and name; InputError when no image contains it."""
    wanted = f"{target['category']} '{target['name']}'"
    for row in concepts:
        if row["name"] == target["name"] and row["category"] == target["category"]:
            if not row["frequency"]:
                raise InputError(f"designed.targets: no image of the probe contains {wanted}; choose another concept")
            return row["number"]
    raise InputError(f"designed.targets: the probe has no concept {wanted}; concepts.csv lists those that it has")


def _check_unit(rows, unit, source: int, layer: str):
    advice = "leave it out of designed.units and experiments.units"
    if rows.at[unit, "dead"]:
        raise InputError(f"designed: layer {layer}, unit {unit} is dead (never above its threshold); {advice}")
    if not source:
        raise InputError(f"designed: layer {layer}, unit {unit} has no label, so no source to attack; {advice}")


def _check_target(found: list[int], source: int, unit, layer: str, label: str):
    if found == [source]:
        raise InputError(
            f"designed.targets: layer {layer}, unit {unit} is called '{label}' already; name another target,"
            " or leave the unit out of designed.units"
        )


def _stream(seed: int, layer: str, unit: int) -> np.random.Generator:
    """What is drawn for a unit depends on these alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, STREAM, zlib.crc32(layer.encode()), unit]))


def _draw_concept(concepts: list[dict], unit: int, source: int, stream: np.random.Generator) -> Task:
    numbers = [row["number"] for row in concepts if row["frequency"] and row["number"] not in (0, source)]
    if not numbers:
        raise InputError("designed.targets: the probe has no second concept; leave `targeted` out of designed.modes")
    return Task(unit, source, int(stream.choice(numbers)))


def _draw_unit(rows, unit: int, source: int, stream: np.random.Generator, layer: str, min_iou: float) -> Task:
    others = rows[(rows["iou"] >= min_iou) & (rows["number"] != source) & (rows["number"] > 0) & ~rows["dead"]]
    if not len(others):
        raise InputError(f"designed: layer {layer} has no other labelled unit to turn unit {unit} into")
    chosen = int(stream.choice(others.index.to_numpy()))
    return Task(unit, source, int(others.at[chosen, "number"]), chosen)
