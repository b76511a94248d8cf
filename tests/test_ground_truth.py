"""A unit that fires exactly on one concept's pixels must get that concept's name."""

import numpy as np
import pytest
from tiny_probe import CATEGORIES, ArrayMaps

from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.probes.minibroden import make_minibroden
from nemesis.probes.probe import read_concepts

PER_CATEGORY = 5


@pytest.fixture(scope="module")
def scenes(prepare, tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "broden"
    make_minibroden(root, images=30, size=128, seed=0, workers=1)
    return prepare(root)


def cover(prepared, number):
    """Where a concept is, bool (N, Hs, Ws)."""
    probe = prepared.probe
    covered = (probe.labels(0, probe.count) == number).any(axis=1)
    covered[(probe.scalars == number).any(axis=1)] = True
    return covered


def frequent_concepts(prepared):
    """The numbers of the most covering concepts of each category."""
    rows = [row for row in read_concepts(prepared.out / "concepts.csv") if row["frequency"]]
    rows.sort(key=lambda row: float(row["coverage"]))
    chosen = {category: [row["number"] for row in rows if row["category"] == category] for category in CATEGORIES}
    assert all(chosen.values())
    return {category: numbers[-PER_CATEGORY:] for category, numbers in chosen.items()}


def dissect_perfect_units(prepared, numbers, shrink):
    """Label table and IoU of units whose map is the share of each cell that the concept covers."""
    maps = np.stack([cover(prepared, number) for number in numbers]).astype(np.float16)
    shares = maps.mean(axis=(1, 2, 3), dtype=np.float64)
    units, count, height, width = maps.shape
    cells = (units, count, height // shrink, shrink, width // shrink, shrink)
    maps = maps.reshape(cells).mean(axis=(3, 5), dtype=np.float32).astype(np.float16)
    thresholds = np.concatenate(
        [
            layer_thresholds(ArrayMaps(maps[unit : unit + 1], block=20), share, "exact").threshold
            for unit, share in enumerate(shares)
        ]
    )
    run = Run(ArrayMaps(maps, block=20), thresholds)
    ((_, iou, table),) = dissect_layer([run], prepared.probe, prepared.concepts, "cpu", "published")
    return table, iou


@pytest.mark.parametrize("probe", ["tiny", "scenes"])
def test_a_perfect_unit_gets_its_concept(probe, request):
    prepared = request.getfixturevalue(probe)
    for category, numbers in frequent_concepts(prepared).items():
        table, iou = dissect_perfect_units(prepared, numbers, shrink=1)
        for unit, number in enumerate(numbers):
            name = prepared.concepts.names[number]
            print(f"{category}: {name} is called {table['label'][unit]}, IoU {table['iou'][unit]:.3f}")
            assert table["label"][unit] == name
            assert table["category"][unit] == category
            assert iou[unit, number] >= 1  # above 1 where the concept is on two planes


def test_a_perfect_unit_of_half_the_resolution_gets_its_concept(scenes):
    for category, numbers in frequent_concepts(scenes).items():
        table, iou = dissect_perfect_units(scenes, numbers, shrink=2)
        own = iou[np.arange(len(numbers)), numbers]
        print(f"{category}: IoU {np.round(own, 3).tolist()}")
        assert table["label"].tolist() == [scenes.concepts.names[number] for number in numbers]
        assert own.min() > 0.6
        assert own.max() > 0.9


def test_another_unit_does_not_get_it(scenes):
    """The check can fail: a unit that fires on one concept's images, but beside its pixels."""
    number = frequent_concepts(scenes)["object"][-1]
    maps = (~cover(scenes, number))[None].astype(np.float16)
    run = Run(ArrayMaps(maps, block=20), np.array([0.5]))
    ((_, iou, table),) = dissect_layer([run], scenes.probe, scenes.concepts, "cpu", "published")
    assert table["label"][0] != scenes.concepts.names[number]
    assert iou[0, number] == 0
