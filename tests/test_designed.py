"""From an attack to its tables: labels, budgets, controls, storages, collateral damage, minimum eps, export."""

import contextlib
import csv
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from designed_layer import LAYER, UNITS, take_shard, tiny_network, tiny_reader

from nemesis.corruption import designed
from nemesis.corruption.attack import UnitPGD, attack_rows
from nemesis.corruption.attacked import AttackedLayer
from nemesis.corruption.collateral import measure_collateral
from nemesis.corruption.designed import COLUMNS, CURVE, compare_storages, dissect_designed
from nemesis.corruption.export import POISONED, export_poison
from nemesis.corruption.minimum import Bracket, find_minimum, open_brackets
from nemesis.corruption.plan import EMPTY, Subject, plan_rows, survey_probe
from nemesis.corruption.poisoned import keep_row_maps
from nemesis.corruption.shown import ForwardPass, open_attack
from nemesis.corruption.targets import Task
from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.extract import ExtractionSettings, ImageSource, extract_activations
from nemesis.dissection.stored import open_maps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.errors import InputError
from nemesis.models.predictions import map_concepts
from nemesis.perturb.pgd import round_rows
from nemesis.perturb.poison import join_poison, open_poison, write_poison
from nemesis.stores import open_store, read

SETTINGS = {"quantile": 0.05, "threshold": "exact", "iou": "published", "min_iou": 0.0}
BATCH = 4


def dissect_probe(probe, concepts, path, images=None):
    """A full dissection of a probe, or of the same labels under other images: maps, thresholds, tally, table."""
    load = probe.images if images is None else lambda start, stop: images[start:stop]
    with tiny_reader(pad_to=BATCH) as reader:
        source = ImageSource(np.arange(probe.count), probe.names, load)
        extract_activations(reader.read, source, path, ExtractionSettings(BATCH))
    maps = open_maps(path, LAYER)
    thresholds = layer_thresholds(maps, SETTINGS["quantile"], "exact").threshold
    ((tally, _, table),) = dissect_layer([Run(maps, thresholds)], probe, concepts, "cpu", "published")
    return maps, thresholds, tally, table


@pytest.fixture(scope="module")
def layer(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("clean") / "maps.zarr"
    maps, thresholds, tally, table = dissect_probe(tiny.probe, tiny.concepts, path)
    table["dead"] = False
    areas = tally.concept_area.numpy()
    return AttackedLayer(LAYER, maps, table, thresholds, areas, tiny.probe, tiny.concepts, "cpu", SETTINGS)


def plan_attack(layer, units=range(UNITS), mode="untargeted", fraction=0.5):
    numbers = layer.table.set_index("unit")["number"]
    tasks = [Task(unit, int(numbers[unit]), 10 if mode == "targeted" else 0) for unit in units]
    subject = Subject(layer.probe, layer.maps, layer.thresholds, "segmentation", "equation7")
    survey = survey_probe(tasks, subject, "cpu")
    return subject, plan_rows(tasks, survey, fraction, mode == "shared")


def attack(layer, path, eps=20.0, plan=None, **options):
    """Attack, store and open."""
    subject, chosen = plan_attack(layer, **options)
    chosen = chosen if plan is None else plan
    with tiny_reader() as reader:
        attacked = attack_rows(UnitPGD(reader, LAYER, 5), chosen, subject, np.full(len(chosen), eps), BATCH)
        write_poison(path, chosen, round_rows(attacked, eps, residue=True), layer.probe.size)
    return open_poison(path, Task)


def stored(poison, storage="lossless"):
    """The attack as its images are stored."""
    return open_attack(path_of(poison), storage, 0)


def path_of(poison):
    return Path(str(poison.store.store_path.store.root))


def forward(layer, reader=None):
    """How the layer's images pass through the tiny network."""
    return ForwardPass(reader or tiny_reader(pad_to=BATCH), LAYER, layer.probe, BATCH, layer.maps.dtype)


def dissect_all(layer, poisons, storage="lossless", budgets=(0.1, 0.25, 0.5)):
    """Of each eps its two tables, and the maps as they are stored."""
    paths = [path_of(poison).with_suffix(".maps") for poison in poisons]
    attacks = [stored(poison, storage) for poison in poisons]
    with contextlib.ExitStack() as stack:
        pairs = zip(paths, poisons, strict=True)
        keeps = [stack.enter_context(keep_row_maps(path, poison, layer.maps)) for path, poison in pairs]
        tables = dissect_designed(layer, forward(layer), attacks, list(budgets), keeps)
    return [(*both, read(open_store(path)["maps"])) for both, path in zip(tables, paths, strict=True)]


def dissect_again(layer, poison, *options, **more):
    (found,) = dissect_all(layer, [poison], *options, **more)
    return found


@pytest.mark.parametrize("mode", ["untargeted", "shared"])
def test_several_eps_at_once_equal_each_alone(layer, tmp_path, mode, monkeypatch):
    poisons = [attack(layer, tmp_path / f"{eps}.zarr", float(eps), mode=mode) for eps in (20, 4, 0)]
    monkeypatch.setattr("nemesis.corruption.designed.SHOWN_BYTES", 1)  # a task at a time
    together = dissect_all(layer, poisons)
    for poison, (table, curve, maps) in zip(poisons, together, strict=True):
        alone = dissect_again(layer, poison)
        pd.testing.assert_frame_equal(table.reset_index(drop=True), alone[0].reset_index(drop=True))
        pd.testing.assert_frame_equal(curve.reset_index(drop=True), alone[1].reset_index(drop=True))
        np.testing.assert_array_equal(maps, alone[2])
    assert together[0][0]["iou"].tolist() != together[1][0]["iou"].tolist()


@pytest.mark.parametrize("mode", ["untargeted", "targeted", "shared"])
@pytest.mark.parametrize("storage", ["lossless", "jpeg-75"])
def test_every_row_is_that_of_a_full_dissection(layer, tiny, tmp_path, mode, storage):
    """Each unit of a poisoned probe, at every budget, as if the whole workflow had been run on it."""
    poison = attack(layer, tmp_path / "poison.zarr", mode=mode)
    table, curve, _ = dissect_again(layer, poison, storage)
    assert list(table) == COLUMNS and list(curve) == CURVE
    clean = tiny.probe.images(0, tiny.probe.count)
    for index, task in enumerate(poison.tasks):
        for budget in (0.1, 0.25, 0.5):
            rows = [row for row in poison.rows_of(index) if poison.rank[row] < int(budget * tiny.probe.count)]
            images = clean.copy()
            for row in rows:
                number = poison.image[row]
                images[number] = poison.stored(slice(row, row + 1), clean[number][None], storage)[0]
            path = tmp_path / f"full-{index}-{budget}.zarr"
            _, thresholds, _, full = dissect_probe(tiny.probe, tiny.concepts, path, images)
            expected = full.set_index("unit").loc[task.unit]
            found = curve[(curve["unit"] == task.unit) & (curve["budget"] == budget)].iloc[0]
            assert (found["label"], found["iou"]) == (expected["label"], expected["iou"])
            assert found["n_poisoned"] == len(rows)
            assert found["manipulated"] == (expected["number"] != task.source)
        row = table.set_index("unit").loc[task.unit]
        assert (row["label"], row["iou"]) == (expected["label"], expected["iou"])
        assert row["threshold"] == thresholds[task.unit]
        assert row["target_hit"] == (mode == "targeted" and expected["number"] == task.target)
        assert row["fraction_poisoned"] == row["n_poisoned"] / tiny.probe.count <= 0.5
        assert row["clean_threshold"] == layer.thresholds[task.unit]


def test_something_is_manipulated_and_stays_in_the_ball(layer, tmp_path):
    poison = attack(layer, tmp_path / "poison.zarr")
    table, _, maps = dissect_again(layer, poison)
    assert table["manipulated"].any()
    assert 0 < table["linf"].max() <= 20
    assert (table["source_iou"] <= table["clean_iou"]).all()
    assert maps.shape == (len(poison.image), 10, 10)


@pytest.mark.parametrize("mode", ["untargeted", "shared"])
def test_units_that_do_not_fit_in_memory_together(layer, tmp_path, mode):
    poison = attack(layer, tmp_path / "poison.zarr", mode=mode)
    *tables, maps = dissect_again(layer, poison)
    with mock.patch.object(designed, "SHOWN_BYTES", 1):  # each alone
        *expected, alone = dissect_again(layer, poison)
    for found, table in zip(tables, expected, strict=True):
        pd.testing.assert_frame_equal(found.reset_index(drop=True), table.reset_index(drop=True))
    np.testing.assert_array_equal(maps, alone)


@pytest.mark.parametrize("storage", ["float", "lossless"])
@pytest.mark.parametrize("mode", ["untargeted", "targeted", "shared"])
def test_no_eps_changes_nothing(layer, tmp_path, storage, mode):
    poison = attack(layer, tmp_path / "poison.zarr", eps=0.0, mode=mode)
    table, curve, _ = dissect_again(layer, poison, storage)
    for part in (table, curve):
        assert not part["manipulated"].any()
        assert (part["iou"] == part["clean_iou"]).all()
    assert not table["noise_manipulated"].any() and not table["fixed_manipulated"].any()
    assert (table["threshold"] == table["clean_threshold"]).all()
    assert not table["linf"].any() and not poison.store["delta"][...].any()


def test_no_unit_to_attack(layer, tmp_path):
    poison = attack(layer, tmp_path / "poison.zarr", plan=EMPTY)
    table, curve, maps = dissect_again(layer, poison)
    assert (list(table), list(curve), len(table), len(curve), len(maps)) == (COLUMNS, CURVE, 0, 0, 0)
    assert not len(compare_storages(layer, forward(layer), poison, ["lossless"]))
    assert not len(measure_collateral(layer, forward(layer), stored(poison)))


@pytest.mark.parametrize("shards", [2, 4, 9])
def test_shards_join_to_the_same_attack(layer, tmp_path, shards):
    whole = attack(layer, tmp_path / "whole.zarr", mode="targeted")
    _, plan = plan_attack(layer, mode="targeted")
    paths = [tmp_path / f"{shard}.zarr" for shard in range(shards)]
    for shard, path in enumerate(paths):
        attack(layer, path, plan=take_shard(plan, shard, shards), mode="targeted")
    join_poison(paths, tmp_path / "joined.zarr")
    joined = open_poison(tmp_path / "joined.zarr", Task)
    assert joined.tasks == whole.tasks
    for name in ("task", "image", "rank"):
        assert (getattr(joined, name) == getattr(whole, name)).all()
    same = joined.store["delta"][...] == whole.store["delta"][...]
    assert same.mean() > 0.99  # sign steps amplify the last bit in which batches may differ


def test_storages_beside_their_controls(layer, tmp_path):
    poison = attack(layer, tmp_path / "poison.zarr")
    found = compare_storages(layer, forward(layer), poison, ["float", "lossless", "jpeg-75", "published"])
    table = dissect_again(layer, poison)[0].set_index("unit")
    by_storage = {name: part.set_index("unit") for name, part in found.groupby("storage")}
    assert (by_storage["lossless"]["label"] == table["label"]).all()
    for name in ("float", "lossless"):
        assert not by_storage[name]["control_manipulated"].any()
        assert not by_storage[name]["control_linf"].any()
        assert np.isinf(by_storage[name]["control_psnr"]).all()
    for name in ("jpeg-75", "published"):
        assert (by_storage[name]["control_linf"] > 20).all()
        assert (by_storage[name]["ssim"] < 0.99).all()


def test_collateral_is_counted_on_full_dissections(layer, tiny, tmp_path):
    poison = attack(layer, tmp_path / "poison.zarr", units=[1, 3])
    found = measure_collateral(layer, forward(layer), stored(poison))
    clean = tiny.probe.images(0, tiny.probe.count)
    with torch.inference_mode():
        module = tiny_network().module
        scores = module(tiny_reader().normalise(torch.from_numpy(clean)))
    for index, line in enumerate(found.itertuples()):
        rows, images = poison.rows_of(index), clean.copy()
        numbers = poison.image[rows]
        images[numbers] = poison.stored(slice(rows[0], rows[-1] + 1), clean[numbers], "lossless")
        table = dissect_probe(tiny.probe, tiny.concepts, tmp_path / f"{index}.zarr", images)[3]
        others = table["unit"] != line.unit
        changed = (table["number"] != layer.table["number"])[others]
        assert (line.others, line.others_changed) == (others.sum(), changed.sum())
        with torch.inference_mode():
            after = module(tiny_reader().normalise(torch.from_numpy(images)))
        assert line.top1_changed == (scores.argmax(1) != after.argmax(1)).sum()
        assert line.n_poisoned == len(rows)
        assert pd.isna(line.accuracy)


def test_accuracy_where_the_outputs_are_concepts(layer, tiny, tmp_path):
    poison = attack(layer, tmp_path / "poison.zarr", units=[1])
    outputs = tiny_network().module(torch.zeros(1, 3, 32, 32)).shape[1]
    everywhere = measure_collateral(layer, forward(layer), stored(poison), True, map_concepts([999] * outputs))
    assert (everywhere["accuracy"] == 0).all() and (everywhere["clean_accuracy"] == 0).all()
    found = measure_collateral(layer, forward(layer), stored(poison), True, map_concepts([3] * outputs))
    holds = [(row.planes() == np.array(3)).any() for row in np.array(tiny.rows, object)[poison.image]]
    assert found["accuracy"].item() == pytest.approx(np.mean(holds))
    unclear = measure_collateral(layer, forward(layer), stored(poison), classifies=False)
    assert unclear[["top1_changed", "noise_top1_changed", "accuracy"]].isna().all(axis=None)
    assert unclear["others_changed"].tolist() == found["others_changed"].tolist()


def test_bracket_by_hand():
    bracket = Bracket(16)
    assert bracket.next_eps == 16
    bracket.note(16, True, "dog")
    assert bracket.next_eps == 8
    bracket.note(8, False, "cat")
    assert (bracket.low, bracket.high, bracket.next_eps) == (8, 16, 12)
    bracket.note(12, True, "cow")
    bracket.note(10, True, "hen")
    bracket.note(9, False, "cat")
    assert (bracket.low, bracket.high, bracket.label, bracket.next_eps) == (9, 10, "hen", None)
    never = Bracket(16)
    never.note(16, False, "cat")
    assert (never.high, never.next_eps) == (None, None)


def test_minimum_epsilon_is_where_the_label_changes(layer, tmp_path):
    """At the minimum the label is another, one step below it is the clean one: attacked again to see."""
    subject, plan = plan_attack(layer)
    attacked = UnitPGD(tiny_reader(), LAYER, 5)
    found = find_minimum(layer, subject, plan, attacked, BATCH, open_brackets(plan.tasks, {}, 40))
    assert found["minimum_epsilon"].notna().any()
    for row in found.dropna().itertuples():
        assert row.minimum_epsilon == row.unchanged_epsilon + 1
        for eps, changed in ((row.minimum_epsilon, True), (row.unchanged_epsilon, False)):
            path = tmp_path / f"{row.unit}-{eps}.zarr"
            table = dissect_again(layer, attack(layer, path, float(eps)), budgets=())[0].set_index("unit")
            assert table.at[row.unit, "manipulated"] == changed
            assert not changed or table.at[row.unit, "label"] == row.label
    known = {20: dissect_again(layer, attack(layer, tmp_path / "known.zarr"), budgets=())[0]}
    narrowed = find_minimum(layer, subject, plan, attacked, BATCH, open_brackets(plan.tasks, known, 40))
    assert (narrowed["attacks"] <= found["attacks"]).all() and narrowed["attacks"].sum() < found["attacks"].sum()
    np.testing.assert_array_equal(narrowed["minimum_epsilon"], found["minimum_epsilon"])


@pytest.mark.parametrize("storage", ["lossless", "jpeg-90"])
@pytest.mark.parametrize("mode", ["targeted", "shared"])
def test_an_exported_probe_reads_as_the_corrupted_one(layer, tiny, prepare, tmp_path, mode, storage):
    poison = attack(layer, tmp_path / "poison.zarr", units=[0, 2], mode=mode)
    source = next(path for path in tiny.probe.store.attrs["created_from"] if path.endswith("index.csv"))
    export_poison(poison, tiny.probe, source.rpartition("/")[0], tmp_path / "broden", storage)
    names = ["shared"] if mode == "shared" else ["unit-0-to-10", "unit-2-to-10"]
    assert sorted(path.name for path in (tmp_path / "broden").iterdir()) == names
    for index, name in enumerate(names):
        exported = prepare(tmp_path / "broden" / name)
        expected = tiny.probe.images(0, tiny.probe.count).copy()
        rows = poison.rows_of(index)
        numbers = poison.image[rows]
        expected[numbers] = poison.stored(slice(rows[0], rows[-1] + 1), expected[numbers], storage)
        np.testing.assert_array_equal(exported.probe.images(0, exported.probe.count), expected)
        np.testing.assert_array_equal(
            exported.probe.labels(0, exported.probe.count), tiny.probe.labels(0, tiny.probe.count)
        )
        with open(tmp_path / "broden" / name / "index.csv", newline="") as stream:
            assert sum(row["image"].startswith(POISONED) for row in csv.DictReader(stream)) == len(rows)


def test_float_images_cannot_be_exported(layer, tiny, tmp_path):
    poison = attack(layer, tmp_path / "poison.zarr", units=[0])
    with pytest.raises(InputError, match=r"designed\.export"):
        export_poison(poison, tiny.probe, tmp_path, tmp_path / "broden", "float")
    assert not (tmp_path / "broden").exists()
