"""Attack on exemplars: which units, which images, what is stored and what the network says."""

import numpy as np
import pandas as pd
import pytest
import torch
from designed_layer import LAYER, store_maps, tiny_network, tiny_reader
from hypothesis import given
from hypothesis import strategies as st

from nemesis.corruption.attack import UnitPGD, attack_rows
from nemesis.corruption.plan import Subject
from nemesis.corruption.shown import ForwardPass, open_attack, random_images
from nemesis.corruption.targets import NO_UNIT, Task
from nemesis.errors import InputError
from nemesis.milan.attack import DescribedLayer, cut_counts, limit_counts, pair_units, plan_exemplars, write_row_maps
from nemesis.milan.exemplars import ExemplarSettings, choose_units
from nemesis.milan.poisoned import collect_poisoned_exemplars
from nemesis.milan.predictions import COLUMNS, find_class_map, predict_poisoned
from nemesis.models.network import LayerReader
from nemesis.models.predictions import Head, map_concepts
from nemesis.perturb.pgd import round_rows
from nemesis.perturb.poison import write_poison
from nemesis.stores import open_store, read

THRESHOLDS = pd.DataFrame({"unit": range(6), "dead": [False, True, False, False, True, False]})


def test_units_all_drawn_or_listed():
    assert choose_units("all", THRESHOLDS, 0, "a").tolist() == [0, 2, 3, 5]
    drawn = choose_units(2, THRESHOLDS, 0, "a")
    assert len(drawn) == 2 and set(drawn) <= {0, 2, 3, 5} and sorted(drawn) == drawn.tolist()
    assert choose_units(2, THRESHOLDS, 0, "a").tolist() == drawn.tolist()
    assert choose_units(99, THRESHOLDS, 0, "a").tolist() == [0, 2, 3, 5]
    assert choose_units([5, 2], THRESHOLDS, 0, "a").tolist() == [2, 5]


@pytest.mark.parametrize("unit", [1, 6])
def test_a_dead_or_unknown_unit_is_named(unit):
    with pytest.raises(InputError, match=rf"milan.units: layer a, unit {unit} does not exist, is dead"):
        choose_units([0, unit], THRESHOLDS, 0, "a")


def test_a_layer_of_dead_units_is_named():
    with pytest.raises(InputError, match="every unit of layer a is dead"):
        choose_units("all", THRESHOLDS[THRESHOLDS["dead"]], 0, "a")


def test_targets_are_other_units_and_depend_on_the_unit_alone():
    alive = np.array([1, 4, 7])
    tasks = pair_units([1, 4, 7], "targeted", alive, 3, "a")
    assert all(task.target_unit in alive and task.target_unit != task.unit for task in tasks)
    assert pair_units([7], "targeted", alive, 3, "a") == tasks[2:]
    assert pair_units([1], "untargeted", alive, 3, "a") == [Task(1, 0)]
    with pytest.raises(InputError, match="no other unit"):
        pair_units([1], "targeted", np.array([1]), 3, "a")


HIGHEST = {0: np.array([0.0, 3, 1, 2, 5, 2], np.float16), 1: np.array([4.0, 0, 0, 6, 0, 1], np.float16)}
LEVELS = np.array([0.5, 0.5])


def test_the_highest_activations_come_first():
    plan = plan_exemplars([Task(0, 0)], HIGHEST.get, LEVELS, 3)
    # by activation: 4 (5), 1 (3), then 3 before 5 (2 each); image 0 has no mask
    assert plan.image.tolist() == [1, 3, 4] and plan.rank.tolist() == [1, 2, 0] and plan.task.tolist() == [0, 0, 0]


def test_a_target_takes_turns():
    plan = plan_exemplars([Task(0, 0, 0, 1)], HIGHEST.get, LEVELS, 4)
    # source 4 1 3 5 2, target 3 0 5: in turn 4 3 1 0 (3 and 5 are there already) ...
    assert dict(zip(plan.rank.tolist(), plan.image.tolist(), strict=True)) == {0: 4, 1: 3, 2: 1, 3: 0}


def test_a_unit_below_its_level_is_named():
    with pytest.raises(InputError, match="layer a, unit 0 has no image above its level"):
        plan_exemplars([Task(0, 0)], HIGHEST.get, np.array([9.0, 0]), 3, "a")


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=8, max_size=8), min_size=2, max_size=2),
    st.integers(1, 9),
    st.booleans(),
)
def test_every_plan_has_images_once_and_ranks_without_gaps(values, images, targeted):
    highest = {unit: np.array(part, np.float16) for unit, part in enumerate(values)}
    if not (highest[0] > 0.5).any():
        return
    task = Task(0, 0, 0, 1) if targeted else Task(0, 0)
    plan = plan_exemplars([task], highest.get, LEVELS, images)
    usable = (highest[0] > 0.5) | (targeted & (highest[1] > 0.5))
    assert len(plan) == min(images, usable.sum())
    assert (np.diff(plan.image) > 0).all() and sorted(plan.rank) == list(range(len(plan)))
    assert usable[plan.image].all()


def test_counts_end_with_the_whole_budget():
    assert limit_counts([25, 50, 100], 60) == [25, 50, 60]
    assert limit_counts([], 7) == [7]


def test_a_unit_has_each_count_once():
    assert cut_counts([25, 50, 100, 60], 60) == [25, 50, 60]
    assert cut_counts([25, 50], 3) == cut_counts([3, 50], 3) == [3]
    assert cut_counts([0, 2], 3) == [0, 2]  # the images that there are are no count of their own


@pytest.fixture(scope="module")
def poisoned(tiny, tmp_path_factory):
    """The tiny probe, its maps, and a poison.zarr of two units at eps 8 with at most four images each."""
    folder = tmp_path_factory.mktemp("milan")
    maps = store_maps(tiny.probe, folder / "maps.zarr")
    levels = np.median(maps.read(slice(0, tiny.probe.count)).astype(float), axis=(1, 2, 3))
    tasks = [Task(0, 0, 0, 2), Task(3, 0)]
    plan = plan_exemplars(tasks, lambda unit: read(maps.max, int(unit)), levels, 4)
    subject = Subject(tiny.probe, maps, levels, "baseline", "equation7")
    with tiny_reader() as reader:
        attacked = attack_rows(UnitPGD(reader, LAYER, 4), plan, subject, np.full(len(plan), 8.0), 5)
        write_poison(folder / "poison.zarr", plan, round_rows(attacked, 8.0), tiny.probe.size)
    return maps, levels, open_attack(folder / "poison.zarr", "lossless", 0)


def forward(tiny, reader, batch):
    return ForwardPass(reader, LAYER, tiny.probe, batch, np.dtype(np.float16))


def test_every_cost_falls(tiny, poisoned):
    """Eq. 9 with the units' own clean masks: unit i over its own cells, less unit i over the target's cells."""
    maps, levels, poison = *poisoned[:2], poisoned[2].poison
    clean = tiny.probe.take_images(poison.image)
    images = np.stack([poison.stored(slice(r, r + 1), clean[r : r + 1], "lossless")[0] for r in range(len(clean))])
    with tiny_reader() as reader, torch.inference_mode():
        found = reader.read(torch.from_numpy(images))[LAYER].numpy()
    for row, number in enumerate(poison.image):
        before = maps.read(slice(number, number + 1))[:, 0].astype(float)
        masks, task = before > levels[:, None, None], poison.tasks[poison.task[row]]

        def cost(values, masks=masks, task=task):
            means = [values[mask].mean() if mask.any() else 0 for mask in masks]
            return means[task.unit] - (means[task.target_unit] if task.target_unit >= 0 else 0)

        assert cost(found[row, task.unit]) < cost(before[task.unit])


def test_row_maps_are_those_of_the_stored_images(tiny, poisoned, tmp_path):
    attack = poisoned[2]
    poison = attack.poison
    write_row_maps(tmp_path / "rows.zarr", attack, forward(tiny, tiny_reader(pad_to=5), 5))
    store = open_store(tmp_path / "rows.zarr")
    noise = random_images(8.0, 0, "lossless")
    for row, number in enumerate(poison.image):
        unit, span = poison.tasks[poison.task[row]].unit, slice(row, row + 1)
        clean = tiny.probe.take_images([number])
        for name, images in (
            ("maps", poison.stored(span, clean, "lossless")),
            ("control", noise(span, clean, [number])),
        ):
            with tiny_reader(pad_to=5) as reader, torch.inference_mode():
                expected = reader.read(torch.from_numpy(images))[LAYER][0, unit].half().numpy()
            np.testing.assert_array_equal(read(store[name], row), expected)


class Classes(torch.nn.Module):
    """Three classes: the share of each colour channel."""

    def forward(self, images):
        return images.mean(dim=(2, 3))


def test_predictions_are_those_of_a_loop(tiny, poisoned):
    attack = poisoned[2]
    poison, network = attack.poison, tiny_network()
    object.__setattr__(network, "module", torch.nn.Sequential(torch.nn.Identity(), Classes()))
    reader, numbers = LayerReader(network, ["0"], "cpu"), np.array([2, 10, 1])
    counts = [0, 1, 4]
    table = predict_poisoned(attack, forward(tiny, reader, 3), counts, classes=map_concepts(numbers))
    assert table.columns.tolist() == COLUMNS and len(table) == 2 * len(counts)

    def top(images):
        scaled = (images.astype(float) / 255 - np.reshape(network.mean, (3, 1, 1))) / np.reshape(network.std, (3, 1, 1))
        return scaled.mean(axis=(2, 3)).argmax(axis=1)

    def right(images):
        planes, scalars = tiny.probe.labels(0, tiny.probe.count), tiny.probe.scalars
        said = numbers[top(images)]
        return np.mean([(planes[n] == s).any() or (scalars[n] == s).any() for n, s in enumerate(said)])

    clean = tiny.probe.images(0, tiny.probe.count)
    for line in table.itertuples():
        task = [task.unit for task in poison.tasks].index(line.unit)
        images = clean.copy()
        used = [row for row in poison.rows_of(task) if poison.rank[row] < line.count]
        for row in used:
            number = poison.image[row]
            images[number] = poison.stored(slice(row, row + 1), clean[number : number + 1], "lossless")[0]
        assert line.top1_changed == (top(images) != top(clean)).sum()
        assert line.accuracy == pytest.approx(right(images)) and line.clean_accuracy == pytest.approx(right(clean))


def test_a_unit_with_few_images_has_each_count_once(tiny, poisoned, tmp_path):
    maps, levels, attack = poisoned
    layer = DescribedLayer("2", tiny.probe, maps, "cpu", np.array([0, 3]), levels)
    write_row_maps(tmp_path / "rows.zarr", attack, forward(tiny, tiny_reader(pad_to=5), 5))
    network = tiny_network()
    object.__setattr__(network, "module", network.module[:3])
    table = predict_poisoned(attack, forward(tiny, LayerReader(network, ["2"], "cpu"), 3), [1, 2, 3, 4, 5, 9], False)
    own = [len(attack.poison.rows_of(task)) for task in range(2)]
    expected = [(unit, count) for unit, images in zip((0, 3), own, strict=True) for count in range(1, images + 1)]
    assert own[0] <= 4 and list(zip(table["unit"], table["count"], strict=True)) == expected
    row_maps = open_store(tmp_path / "rows.zarr")
    found = collect_poisoned_exemplars(layer, attack, row_maps, [1, 2, 3, 4, 5, 9], ExemplarSettings(2, 0.5, 8))
    rows = list(
        zip(found.columns["control"].tolist(), found.unit.tolist(), found.columns["count"].tolist(), strict=True)
    )
    assert sorted(rows) == sorted((control, *row) for control in (0, 1) for row in expected)


class Folder:
    """A probe of two classes and an image without one."""

    class_names, classes = ("cat", "dog"), np.array([0, 1, -1])


def test_a_folder_of_classes_checks_a_network_with_as_many():
    classes = find_class_map(Folder(), None, Head("fc", 2))
    assert classes.check(Folder(), np.array([0, 1, 2]), np.array([0, 0, 0])).tolist() == [True, False, False]
    assert find_class_map(Folder(), None, Head("fc", 1000)) is find_class_map(Folder(), None, None) is None
    assert find_class_map(Folder(), np.array([7, 9]), None).numbers.tolist() == [7, 9]


def test_a_network_without_classes_leaves_the_columns_empty(tiny, poisoned):
    network = tiny_network()
    object.__setattr__(network, "module", network.module[:3])
    found = predict_poisoned(poisoned[2], forward(tiny, LayerReader(network, ["2"], "cpu"), 3), [2], classifies=False)
    assert found["top1_changed"].isna().all() and found["accuracy"].isna().all() and len(found) == 2


def test_no_target_unit_is_minus_one():
    assert NO_UNIT == -1
