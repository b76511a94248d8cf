"""Dissecting changed units alone equals a full dissection of the corrupted probe, bit for bit."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from designed_layer import LAYER, UNITS, ArrayProbe, store_maps, tiny_reader
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_probe import ArrayMaps

from nemesis.corruption import redissect as redissect_module
from nemesis.corruption.attacked import AttackedLayer
from nemesis.corruption.redissect import Change, redissect
from nemesis.dissection.dissect import Concepts, Run, dissect_layer
from nemesis.dissection.masks import mask_pixels
from nemesis.dissection.thresholds import layer_thresholds

pytestmark = pytest.mark.arithmetic

LENGTH, CATEGORIES = 9, ["a", "b", "c"]
RULES = [
    (quantile, rule, iou)
    for quantile, rule in ((0.005, "exact"), (0.2, "exact"), (0.005, "published"))
    for iou in ("published", "equation4")
]
all_settings = st.sampled_from(RULES).map(lambda rules: dict(zip(("quantile", "threshold", "iou"), rules, strict=True)))
shapes = st.sampled_from([(5, 5), (1, 1), (3, 8), (1, 6), (12, 10), (9, 9), (15, 4)])  # labels have (12, 10) pixels


def draw_probe(rng, count):
    """Labels in patches, some concepts on two planes, image-level labels that planes may repeat."""
    planes = np.kron(rng.integers(0, LENGTH, (count, 3, 4, 5)), np.ones((3, 2), int)).astype(np.uint16)
    planes[:, 2] = np.where(rng.random((count, 1, 1)) < 0.5, planes[:, 0], 0)
    scalars = (rng.integers(0, LENGTH, (count, 2)) * (rng.random((count, 2)) < 0.5)).astype(np.uint16)
    category_of = rng.integers(0, 3, LENGTH)
    names = ["", *(f"concept {n}" for n in range(1, LENGTH))]
    return ArrayProbe(planes, scalars), Concepts(names, category_of, CATEGORIES)


def draw_maps(rng, shape, dtype, kind):
    """Maps with ties, of few values, with both zeros, or after a ReLU."""
    values = rng.normal(size=shape) * 3
    if kind == "ties":
        values = np.round(values)
    elif kind == "relu":
        values = np.maximum(values - 2, 0)
    elif kind == "constant":
        values = 0 * values
    return values.astype(dtype)  # rounding leaves both zeros behind


def dissect_fully(maps, probe, concepts, rules, threshold=None, unit=None):
    """Thresholds, tally, IoU and best numbers of a whole layer of maps (U, N, h, w)."""
    source = ArrayMaps(maps, block=4)
    thresholds = layer_thresholds(source, rules["quantile"], rules["threshold"]).threshold
    if threshold is not None:
        thresholds[unit] = threshold
    ((tally, iou, table),) = dissect_layer([Run(source, thresholds)], probe, concepts, "cpu", rules["iou"])
    return thresholds, tally, iou, table["number"].to_numpy()


def clean_layer(maps, probe, concepts, areas, rules):
    """A layer as far as it is needed."""
    return AttackedLayer("layer", maps, None, None, areas, probe, concepts, "cpu", rules)


def assert_equals_full(found, changes, maps, probe, concepts, rules):
    """Each change is what a full dissection says of its unit after that change alone."""
    assert len(found.thresholds) == len(found.iou) == len(changes)
    for index, change in enumerate(changes):
        corrupted = maps.copy()
        corrupted[change.unit, change.images[change.kept]] = change.maps[change.kept]
        assert change.count == change.kept.sum()
        thresholds, tally, iou, numbers = dissect_fully(
            corrupted, probe, concepts, rules, change.threshold, change.unit
        )
        assert found.thresholds[index] == thresholds[change.unit]
        for name in ("intersection", "unit_area", "unit_total"):
            ours, theirs = getattr(found.tally, name)[index], getattr(tally, name)[change.unit]
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        np.testing.assert_array_equal(found.tally.concept_area, tally.concept_area)
        assert found.iou[index].tobytes() == iou[change.unit].tobytes()
        assert found.numbers[index] == numbers[change.unit]


@st.composite
def cases(draw):
    """A probe, its clean maps, and changes of units (the same one several times, too)."""
    rng, count, units = np.random.default_rng(draw(st.integers(0, 9999))), draw(st.integers(1, 9)), 3
    shape, dtype = draw(shapes), draw(st.sampled_from([np.float16, np.float32]))
    kinds = st.sampled_from(["normal", "ties", "relu", "constant"])
    maps = draw_maps(rng, (units, count, *shape), dtype, draw(kinds))
    changes = []
    for _ in range(draw(st.integers(1, 4))):
        images = draw(st.one_of(st.sets(st.integers(0, count - 1)), st.just(set(range(count)))))
        changed = draw_maps(rng, (len(images), *shape), dtype, draw(kinds)) * dtype(draw(st.sampled_from([1, 0.2, -5])))
        threshold = draw(st.sampled_from([None, None, None, 0.7, -1.0]))
        change = Change(draw(st.integers(0, units - 1)), np.array(sorted(images), int), changed, threshold)
        changes.append(change)
        if draw(st.booleans()):  # the same maps at another threshold, and for some of the images
            chosen = rng.random(len(images)) < 0.5
            changes += [replace(change, threshold=0.4), replace(change, chosen=chosen)]
    return *draw_probe(rng, count), maps, changes, draw(all_settings), draw(st.sampled_from([1, 3, 2**30]))


@settings(max_examples=60)
@given(cases())
def test_equals_a_full_dissection_of_the_corrupted_probe(case):
    probe, concepts, maps, changes, rules, limit = case
    kept, per_unit = maps.copy(), maps[0].nbytes
    _, clean, _, _ = dissect_fully(maps, probe, concepts, rules)
    with (
        mock.patch.object(redissect_module, "MAP_BYTES", limit * per_unit),  # so many units at a time
        mock.patch.object(redissect_module, "IMAGES", limit),
    ):
        found = redissect(changes, clean_layer(ArrayMaps(maps), probe, concepts, clean.concept_area.numpy(), rules))
    assert_equals_full(found, changes, maps, probe, concepts, rules)
    assert maps.tobytes() == kept.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("quantile", "rule", "iou"), RULES)
def test_on_a_stored_layer(tiny, tmp_path, dtype, quantile, rule, iou):
    rules = {"quantile": quantile, "threshold": rule, "iou": iou}
    stored = store_maps(tiny.probe, tmp_path / "maps.zarr", dtype)
    maps = stored.read(slice(0, 12))
    noise = np.random.default_rng(0).integers(-40, 41, (12, 3, 32, 32))
    images = np.clip(tiny.probe.images(0, 12) + noise, 0, 255).astype(np.uint8)
    with tiny_reader() as reader, torch.inference_mode():
        shown = reader.read(images)[LAYER].transpose(0, 1).numpy().astype(dtype)
    changes = []
    for unit in (0, 3, UNITS - 1):
        for chosen in ([unit, unit + 3, 11], list(range(12))):
            changes.append(Change(unit, np.array(chosen), shown[unit, chosen]))
    changes = [*changes[::2], *changes[1::2], Change(3, np.array([], int), shown[3, []])]
    _, clean, clean_iou, numbers = dissect_fully(maps, tiny.probe, tiny.concepts, rules)
    with mock.patch.object(redissect_module, "MAP_BYTES", 2 * maps[0].nbytes):
        areas = clean.concept_area.numpy()
        found = redissect(changes, clean_layer(stored, tiny.probe, tiny.concepts, areas, rules))
    assert_equals_full(found, changes, maps, tiny.probe, tiny.concepts, rules)
    assert found.iou[-1].tobytes() == clean_iou[3].tobytes()
    assert found.numbers[-1] == numbers[3]
    assert (found.iou[:-1] > 0).any()


@pytest.mark.parametrize("cells", [(9, 9), (20, 20), (32, 8), (5, 5), (12, 10), (1, 1)])
def test_a_mask_does_not_depend_on_the_maps_beside_it(cells):
    """Not even where an upsampled value is its map's threshold, and the last bit decides."""
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(40, *cells)).astype(np.float32))
    thresholds = torch.stack([F.interpolate(m[None, None], (12, 10), mode="bilinear")[0, 0, 5, 4] for m in maps])
    ((pair, pixel, _),) = mask_pixels(maps, thresholds, (12, 10))
    for index in range(len(maps)):
        ((_, alone, _),) = mask_pixels(maps[index : index + 1], thresholds[index : index + 1], (12, 10))
        assert pixel[pair == index].tolist() == alone.tolist()


def test_a_unit_that_falls_silent_has_no_label(tiny, tmp_path):
    stored = store_maps(tiny.probe, tmp_path / "maps.zarr")
    rules = {"quantile": 0.005, "threshold": "exact", "iou": "published"}
    flat = Change(1, np.arange(12), np.full((12, 10, 10), 2, np.float16))
    areas = np.ones(len(tiny.concepts.names), int)
    found = redissect([flat], clean_layer(stored, tiny.probe, tiny.concepts, areas, rules))
    assert (found.thresholds.tolist(), found.numbers.tolist()) == ([2], [0])
    assert not found.iou.any()
