"""Null churn: labels on the resampled clean probe."""

import numpy as np
import pytest
from slow_tally import slow_iou, slow_tally
from tiny_probe import CATEGORIES, ArrayMaps, TinyRow, tiny_rows, write_broden

from nemesis.dissection.clean import resample_runs, tabulate_churn
from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.draws import resample_weights
from nemesis.dissection.thresholds import layer_thresholds

SETTINGS = {"quantile": 0.1, "threshold": "exact", "iou": "published", "null_replicates": 4}


def clean_table(maps, prepared):
    thresholds = layer_thresholds(maps, SETTINGS["quantile"], "exact").threshold
    run = Run(maps, thresholds)
    ((_, _, table),) = dissect_layer([run], prepared.probe, prepared.concepts, "cpu", "published")
    return table


def churn_of(maps, prepared, clean, seed=0, **changes):
    runs = resample_runs(maps, prepared.probe.count, SETTINGS | changes, seed)
    results = dissect_layer(runs, prepared.probe, prepared.concepts, "cpu", "published") if runs else []
    return tabulate_churn([table for _, _, table in results], clean)


@pytest.fixture
def maps():
    return ArrayMaps(np.random.default_rng(3).normal(size=(5, 12, 6, 6)).astype(np.float32), block=5)


def test_weights_are_draws_with_replacement():
    drawn = [resample_weights(40, replicate, 7) for replicate in range(300)]
    assert all(weights.sum() == 40 and weights.shape == (40,) and weights.min() >= 0 for weights in drawn)
    absent = np.mean([(weights == 0).mean() for weights in drawn])
    assert absent == pytest.approx((1 - 1 / 40) ** 40, abs=0.01)
    assert np.mean(drawn, axis=0) == pytest.approx(np.ones(40), abs=0.3)


def test_weights_depend_on_seed_and_replicate_alone():
    weights = resample_weights(40, 1, 7)
    np.testing.assert_array_equal(resample_weights(40, 1, 7), weights)
    assert (resample_weights(40, 2, 7) != weights).any()
    assert (resample_weights(40, 1, 8) != weights).any()


def test_labels_are_those_of_repeated_images(tiny, maps):
    clean = clean_table(maps, tiny)
    churn = churn_of(maps, tiny, clean, seed=5)
    assert churn[["replicate", "unit"]].to_numpy().tolist() == [[r, u] for r in range(4) for u in range(5)]
    category_of, rows = tiny.concepts.category_of, iter(churn.to_dict("records"))
    for replicate in range(4):
        images = np.repeat(np.arange(12), resample_weights(12, replicate, 5))
        repeated = maps.maps[:, images]
        thresholds = np.quantile(repeated.reshape(5, -1).astype(float), 0.9, axis=1)
        planes = [tiny.rows[image].planes() for image in images]
        both, area, _, concepts = slow_tally(repeated, thresholds, planes, category_of, len(CATEGORIES), (16, 16))
        iou = slow_iou(both, area[:, category_of], concepts)
        for unit in range(5):
            row, best = next(rows), iou[unit].argmax()
            assert row["label"] == tiny.concepts.names[best]
            assert row["iou"] == pytest.approx(iou[unit, best], rel=1e-12)
            assert row["changed"] == (best != clean["number"][unit])
    assert 0 < churn["changed"].mean() < 1


def test_the_same_seed_gives_the_same_churn(tiny, maps):
    clean = clean_table(maps, tiny)
    first = churn_of(maps, tiny, clean)
    assert first.equals(churn_of(maps, tiny, clean))
    assert not first.equals(churn_of(maps, tiny, clean, seed=1))
    fewer = churn_of(maps, tiny, clean, null_replicates=2)
    assert fewer.equals(first[first["replicate"] < 2])


def test_equal_images_have_no_churn(prepare, tmp_path):
    row = tiny_rows(1)[0]
    rows = [TinyRow(f"t/{number}.png", "train", row.pixels, row.cells) for number in range(6)]
    prepared = prepare(write_broden(tmp_path / "broden", rows))
    one = np.random.default_rng(0).normal(size=(8, 1, 6, 6)).astype(np.float32)
    maps = ArrayMaps(np.repeat(one, 6, axis=1))
    clean = clean_table(maps, prepared)
    assert (clean["iou"] > 0).sum() > 4
    churn = churn_of(maps, prepared, clean)
    assert not churn["changed"].any()
    np.testing.assert_allclose(churn["iou"], np.tile(clean["iou"], 4), rtol=1e-12)


def test_no_replicates(tiny, maps):
    clean = clean_table(maps, tiny)
    churn = churn_of(maps, tiny, clean, null_replicates=0)
    assert len(churn) == 0
    assert churn.columns.tolist() == churn_of(maps, tiny, clean).columns.tolist()
