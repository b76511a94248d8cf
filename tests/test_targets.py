"""Targets of attacked units: by seed and unit alone, and refused in one line where there is nothing to attack."""

import pandas as pd
import pytest

from nemesis.corruption.targets import NO_UNIT, Aim, Task, choose_tasks
from nemesis.errors import InputError

CONCEPTS = [
    {"number": 1, "name": "street", "category": "scene", "frequency": 5},
    {"number": 3, "name": "table", "category": "object", "frequency": 9},
    {"number": 7, "name": "head", "category": "part", "frequency": 2},
    {"number": 8, "name": "head", "category": "object", "frequency": 1},
    {"number": 9, "name": "ghost", "category": "material", "frequency": 0},
    {"number": 300, "name": "zebra", "category": "object", "frequency": 4},
]
PRESENT = {row["number"] for row in CONCEPTS if row["frequency"]}
NAMES = {row["number"]: row["name"] for row in CONCEPTS} | {0: ""}
# unit: number of its label, IoU, dead. Unit 5 has a label and never fires, 6 has no label.
TABLE = {0: (3, 0.5, False), 1: (3, 0.2, False), 2: (300, 0.1, False), 3: (7, 0.03, False), 4: (1, 0.3, False)}
TABLE |= {5: (8, 0.4, True), 6: (0, 0.0, False), **dict.fromkeys(range(10, 60), (3, 0.1, False))}


def clean_table(table=TABLE):
    rows = [{"unit": unit, "number": n, "iou": iou, "dead": dead} for unit, (n, iou, dead) in table.items()]
    return pd.DataFrame(rows).assign(label=lambda frame: frame["number"].map(NAMES))


def choose(units, mode="targeted", masks="segmentation", targets="random", seed=0, layer="conv", **options):
    clean = clean_table(options.pop("table", TABLE))
    aim = Aim(mode, masks, targets, seed=seed)
    return choose_tasks(units, clean, options.pop("concepts", CONCEPTS), aim, layer, **options)


def named(*pairs):
    return [{"category": category, "name": name} for category, name in pairs]


@pytest.mark.parametrize("mode", ["untargeted", "shared"])
@pytest.mark.parametrize("masks", ["segmentation", "baseline"])
def test_untargeted(mode, masks):
    assert choose([4, 0, 2], mode, masks) == [Task(4, 1, 0, NO_UNIT), Task(0, 3, 0, NO_UNIT), Task(2, 300, 0, NO_UNIT)]


def test_random_targets_occur_and_differ_from_the_source():
    tasks = choose(range(10, 60))
    assert [task.unit for task in tasks] == list(range(10, 60))
    assert {task.source for task in tasks} == {3}
    assert {task.target for task in tasks} == PRESENT - {3}
    assert {task.target_unit for task in tasks} == {NO_UNIT}


@pytest.mark.parametrize("masks", ["segmentation", "baseline"])
def test_a_target_depends_on_seed_layer_and_unit_alone(masks):
    units = [*range(10, 60), 0, 1, 2]
    tasks = choose(units, masks=masks)
    assert choose(units, masks=masks) == tasks
    assert choose(units[::-1], masks=masks) == tasks[::-1]
    for unit, task in zip(units[::7], tasks[::7], strict=True):
        assert choose([unit], masks=masks) == [task]
    for other in (choose(units, masks=masks, seed=1), choose(units, masks=masks, layer="conv2")):
        assert 0.2 < sum(a != b for a, b in zip(tasks, other, strict=True)) / len(units) < 1


def test_named_targets():
    targets = named(("object", "zebra"), ("part", "head"), ("object", "table"))
    tasks = choose([0, 2, 4], targets=targets)
    expected = [(0, 3, 300), (0, 3, 7), (2, 300, 7), (2, 300, 3), (4, 1, 300), (4, 1, 7), (4, 1, 3)]
    assert tasks == [Task(*values) for values in expected]
    assert choose([0], targets=named(("object", "head"))) == [Task(0, 3, 8)]


def test_baseline_targets_are_labelled_units():
    tasks = choose(range(10, 60), masks="baseline", min_iou=0.04)
    found = {(task.target_unit, task.target) for task in tasks}
    assert found == {(2, 300), (4, 1)}  # 3 is below min_iou, 5 dead, 6 without label; the others are called the same
    assert {(3, 7)} <= {(task.target_unit, task.target) for task in choose(range(10, 60), masks="baseline")}


GHOST = named(("material", "ghost"))
ONE = [row for row in CONCEPTS if row["number"] in (3, 9)]  # 9 does not occur
ALIKE = {unit: TABLE[unit] for unit in (0, 1, 5, 6)}  # none of another name could be a target
REFUSED = {
    "dead": ([0, 5], {}, "layer conv, unit 5 is dead"),
    "dead, untargeted": ([5], {"mode": "untargeted"}, "layer conv, unit 5 is dead"),
    "without label": ([6], {"mode": "shared"}, "layer conv, unit 6 has no label"),
    "unknown name": ([0], {"targets": named(("object", "unicorn"))}, "the probe has no concept object 'unicorn'"),
    "other category": ([0], {"targets": named(("color", "zebra"))}, "the probe has no concept color 'zebra'"),
    "not in the probe": ([0], {"targets": GHOST}, "no image of the probe contains material 'ghost'"),
    "the source": ([4, 0], {"targets": named(("object", "table"))}, "layer conv, unit 0 is called 'table' already"),
    "one concept": ([0], {"concepts": ONE}, "no second concept"),
    "one label": ([0], {"masks": "baseline", "table": ALIKE}, "layer conv has no other labelled unit to turn unit 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case):
    units, options, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        choose(units, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("designed")


def test_a_target_given_twice():
    with pytest.raises(InputError, match="unit 0 is called 'table' already"):
        choose([0], targets=2 * named(("object", "table")))
    assert choose([0], targets=2 * named(("object", "zebra"))) == [Task(0, 3, 300)]
