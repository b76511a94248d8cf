"""The tally against loops written from the paper, and against the published code's own counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_tally import slow_iou, slow_tally
from tiny_probe import CATEGORIES, ArrayMaps

from nemesis.dissection import tally as tally_module
from nemesis.dissection.dissect import Run, dissect_layer, dissect_runs
from nemesis.dissection.tally import best_labels, compute_iou
from nemesis.dissection.thresholds import layer_thresholds

NAMES = ("intersection", "unit_area", "unit_total", "concept_area")


def draw_maps(units=6, count=12, cells=(5, 5), seed=0):
    """Maps with low thresholds: large masks that meet many labels, and a unit that never fires."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(units, count, *cells)).astype(np.float32)
    thresholds = np.linspace(-0.5, 1.5, units)
    thresholds[-1] = 100
    return maps, thresholds


def arrays_of(tally):
    return {name: getattr(tally, name).numpy() for name in NAMES}


def tally_of(tiny, maps, thresholds, weights=None, block=5):
    (tally,) = dissect_runs([Run(ArrayMaps(maps, block), thresholds, weights)], tiny.probe, tiny.concepts, "cpu")
    return tally


def slow_arrays(tiny, maps, thresholds, images=None):
    images = range(len(tiny.rows)) if images is None else images
    planes = [tiny.rows[image].planes() for image in images]
    counts = slow_tally(maps[:, images], thresholds, planes, tiny.concepts.category_of, len(CATEGORIES), (16, 16))
    return dict(zip(NAMES, counts, strict=True))


def assert_equal(found, expected):
    for name in NAMES:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("cells", [(5, 5), (16, 16), (8, 3), (1, 1)])
def test_tally_is_that_of_the_paper(tiny, cells):
    maps, thresholds = draw_maps(cells=cells)
    expected = slow_arrays(tiny, maps, thresholds)
    assert (expected["unit_area"] < expected["unit_total"][:, None]).any()
    assert expected["intersection"][:, [300, 301, 6, 7]].all(axis=1)[:-1].any()
    assert_equal(arrays_of(tally_of(tiny, maps, thresholds)), expected)


def test_float16_maps_are_upsampled_in_float32(tiny):
    maps, thresholds = draw_maps()
    half = maps.astype(np.float16)
    expected = slow_arrays(tiny, half.astype(np.float32), thresholds)
    assert_equal(arrays_of(tally_of(tiny, half, thresholds)), expected)


def test_both_unions(tiny):
    maps, thresholds = draw_maps()
    tally = tally_of(tiny, maps, thresholds)
    counts = arrays_of(tally)
    category_of = tiny.concepts.category_of
    both, area = counts["intersection"], counts["concept_area"]
    published = slow_iou(both, counts["unit_area"][:, category_of], area)
    equation4 = slow_iou(both, counts["unit_total"][:, None].repeat(len(area), 1), area)
    np.testing.assert_allclose(compute_iou(tally, tiny.concepts.on, "published"), published, rtol=1e-14)
    np.testing.assert_allclose(compute_iou(tally, tiny.concepts.on, "equation4"), equation4, rtol=1e-14)
    assert (published >= equation4).all()
    assert (published > equation4).any()


@pytest.mark.parametrize("block", [1, 4, 12, 50])
def test_blocks_of_any_size_give_the_same_tally(tiny, block, monkeypatch):
    maps, thresholds = draw_maps()
    expected = arrays_of(tally_of(tiny, maps, thresholds))
    assert_equal(arrays_of(tally_of(tiny, maps, thresholds, block=block)), expected)
    monkeypatch.setattr(tally_module, "COUNT_BYTES", 1)  # one (unit, image) pair at a time
    assert_equal(arrays_of(tally_of(tiny, maps, thresholds, block=block)), expected)


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_weights_of_images_are_repetitions(tiny, weights):
    maps, thresholds = draw_maps(units=3)
    images = np.repeat(np.arange(12), weights)
    found = arrays_of(tally_of(tiny, maps, thresholds, np.array(weights, np.int64)))
    assert_equal(found, slow_arrays(tiny, maps, thresholds, images))


def test_units_do_not_depend_on_their_neighbours(tiny):
    maps, thresholds = draw_maps()
    whole = arrays_of(tally_of(tiny, maps, thresholds))
    for unit in (0, 3):
        alone = arrays_of(tally_of(tiny, maps[unit : unit + 1], thresholds[unit : unit + 1]))
        for name in NAMES[:3]:
            np.testing.assert_array_equal(alone[name][0], whole[name][unit])


def test_several_runs_in_one_pass_equal_each_alone(tiny):
    maps, thresholds = draw_maps()
    source, other = ArrayMaps(maps), ArrayMaps(draw_maps(seed=1)[0])
    weights = np.arange(12) % 3
    runs = [Run(source, thresholds), Run(source, thresholds + 0.3, weights), Run(other, thresholds)]
    for run, tally in zip(runs, dissect_runs(runs, tiny.probe, tiny.concepts, "cpu"), strict=True):
        assert_equal(arrays_of(tally), arrays_of(tally_of(tiny, run.maps.maps, run.thresholds, run.weights)))


@settings(max_examples=25)
@given(
    st.integers(0, 9999), st.integers(1, 6), st.sampled_from([(5, 5), (16, 16), (20, 3)]), st.sampled_from([1, 5, 12])
)
def test_versions_of_one_source_equal_each_alone(tiny, seed, versions, cells, block):
    """Thresholds that lie on values of maps, too, and images that some versions leave out."""
    rng = np.random.default_rng(seed)
    maps = np.round(rng.normal(size=(3, 12, *cells)) * 2).astype(np.float16)
    source, runs = ArrayMaps(maps, block), []
    for _ in range(versions):
        thresholds = rng.choice([-1.0, 0.0, 0.5, 1.0, 1.3, 2.0, 9.0], 3)
        runs.append(Run(source, thresholds, rng.integers(0, 3, 12) * (rng.random(12) < 0.7)))
    for run, tally in zip(runs, dissect_runs(runs, tiny.probe, tiny.concepts, "cpu"), strict=True):
        assert_equal(arrays_of(tally), arrays_of(tally_of(tiny, maps, run.thresholds, run.weights, block)))
        images = np.repeat(np.arange(12), run.weights)
        if cells == (16, 16):  # where the map is the mask, rounding cannot differ
            assert_equal(arrays_of(tally), slow_arrays(tiny, maps.astype(np.float32), run.thresholds, images))


def test_table_of_labels(tiny):
    maps, thresholds = draw_maps()
    for rule in ("published", "equation4"):
        ((tally, iou, table),) = dissect_layer(
            [Run(ArrayMaps(maps), thresholds)], tiny.probe, tiny.concepts, "cpu", rule
        )
        np.testing.assert_array_equal(iou, compute_iou(tally, tiny.concepts.on, rule))
        assert table["unit"].tolist() == list(range(6))
        for unit in range(5):
            row, ranked = table.iloc[unit], sorted(range(len(iou[unit])), key=lambda n, u=unit: (-iou[u, n], n))
            assert [row["label"], *(row[f"label_{k}"] for k in range(2, 6))] == [
                tiny.concepts.names[n] if iou[unit, n] else "" for n in ranked[:5]
            ]
            assert row["iou"] == iou[unit, ranked[0]]
            assert row["iou_5"] == iou[unit, ranked[4]]
            assert row["category"] == CATEGORIES[tiny.concepts.category_of[ranked[0]]]
            assert row["intersection"] == tally.intersection[unit, ranked[0]]
            assert row["iou"] == pytest.approx(row["intersection"] / row["union"], rel=1e-14)


def test_a_unit_without_a_mask_has_no_label(tiny):
    maps, thresholds = draw_maps()
    ((_, iou, table),) = dissect_layer(
        [Run(ArrayMaps(maps), thresholds)], tiny.probe, tiny.concepts, "cpu", "published"
    )
    assert not iou[-1].any()
    row = table.iloc[-1]
    assert (row["label"], row["category"], row["label_5"], row["number"]) == ("", "", "", 0)
    assert (row["iou"], row["intersection"], row["union"]) == (0, 0, 0)


def test_ties_go_to_the_lower_number():
    iou = np.array([[0, 0.2, 0.5, 0.1, 0.5, 0.2, 0.0]])
    numbers, scores = best_labels(iou)
    assert numbers.tolist() == [[2, 4, 1, 5, 3]]
    assert scores.tolist() == [[0.5, 0.5, 0.2, 0.2, 0.1]]


def test_places_without_a_concept_are_empty():
    for iou in (np.array([[0, 0, 0.5, 0, 0, 0, 0]]), np.array([[0, 0, 0.5]])):
        numbers, scores = best_labels(iou)
        assert numbers.tolist() == [[2, 0, 0, 0, 0]]
        assert scores.tolist() == [[0.5, 0, 0, 0, 0]]


def test_golden_synthetic_tally(synthetic, golden):
    expected = np.load(golden("synthetic/expected.npz"))
    features = np.load(golden("synthetic/features_all14.npy"))[expected["kept_rows"]]
    maps = ArrayMaps(features.transpose(1, 0, 2, 3))
    thresholds = layer_thresholds(maps, 0.005, "published").threshold
    ((tally, iou, table),) = dissect_layer(
        [Run(maps, thresholds)], synthetic.probe, synthetic.concepts, "cpu", "published"
    )
    np.testing.assert_array_equal(tally.intersection.numpy(), expected["tally_both"])
    np.testing.assert_array_equal(tally.unit_total.numpy(), expected["tally_units"])
    np.testing.assert_array_equal(tally.unit_area.numpy(), expected["tally_units_cat"])
    np.testing.assert_array_equal(tally.concept_area.numpy(), expected["tally_labels"])
    np.testing.assert_allclose(iou, expected["iou"], rtol=0, atol=1e-11)
    assert (expected["iou"] > 0).sum() > 30
    for unit, scores in enumerate(expected["iou"]):
        best = [synthetic.concepts.names[n] for n in np.flatnonzero(scores == scores.max()) if scores.max()]
        assert table["label"][unit] in (best or [""])


@pytest.mark.parametrize("block", [10, 15])
def test_golden_tally_of_stored_features(camvid, golden, block):
    subset = np.load(golden(f"block{block}/features_subset.npz"))
    baseline = np.load(golden(f"block{block}/baseline.npz"))
    units = subset["units"]
    run = Run(ArrayMaps(subset["features"].transpose(1, 0, 2, 3), block=20), baseline["thresholds"][units])
    ((tally, iou, table),) = dissect_layer([run], camvid.probe, camvid.concepts, "cpu", "published")
    np.testing.assert_array_equal(tally.intersection.numpy(), baseline["tally_both"][units])
    np.testing.assert_array_equal(tally.unit_total.numpy(), baseline["tally_units"][units])
    np.testing.assert_array_equal(tally.unit_area.numpy(), baseline["tally_units_cat"][units])
    np.testing.assert_array_equal(tally.concept_area.numpy(), baseline["tally_labels"])
    np.testing.assert_allclose(iou, baseline["iou"][units], rtol=0, atol=1e-12)
    equation4 = compute_iou(tally, torch.from_numpy(camvid.concepts.category_of), "equation4")
    np.testing.assert_allclose(equation4, baseline["iou_eq4"][units], rtol=0, atol=1e-12)
    best = baseline["iou"][units]
    for row, scores in zip(table["number"], best, strict=True):
        assert scores[row] == scores.max()
