"""Thresholds from counts are the exact quantiles, and counts add up."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_probe import ArrayMaps

from nemesis.dissection import counts as counting
from nemesis.dissection.counts import (
    BINS,
    LEVEL_PUBLISHED,
    PatternCounts,
    add_counts,
    compute_thresholds,
    count_activations,
    counting_dtype,
    thresholds_from_counts,
)
from nemesis.dissection.thresholds import layer_thresholds, thresholds_of_runs

TINY16, TINY32 = float(np.finfo(np.float16).smallest_subnormal), float(np.finfo(np.float32).smallest_subnormal)
LEVELS = st.sampled_from([0.005, 0.001, 0.02, 0.25, 0.5, 0.9])


@st.composite
def draw_maps(draw, dtype):
    """Maps (U, B, h, w) with ties, signs, both zeros, subnormals, and sometimes one value only."""
    width = np.dtype(dtype).itemsize * 8
    wide = st.floats(width=width, allow_nan=False, allow_infinity=False)
    pool = st.sampled_from([-0.0, 0.0, 1.0, 1.5, -2.0, TINY16 if width == 16 else TINY32, 100.0])
    elements = draw(st.sampled_from([wide, pool, st.just(-3.0), st.floats(-1, 1, width=width)]))
    shape = draw(st.tuples(*(st.integers(1, n) for n in (3, 7, 4, 4))))
    return draw(arrays.arrays(dtype, shape, elements=elements))


def thresholds_of(maps, quantile=0.005, rule="exact"):
    return compute_thresholds(lambda: iter([(maps, 1)]), len(maps), maps.dtype, quantile, rule)


def check_exact(maps, quantile):
    found = thresholds_of(maps, quantile)
    for unit, values in enumerate(maps.reshape(len(maps), -1).astype(np.float64)):
        assert found.threshold[unit] == np.quantile(values, 1.0 - quantile)
        assert found.n_values[unit] == values.size
        assert found.exceeding_fraction[unit] == (values > found.threshold[unit]).mean()
        assert found.dead[unit] == (values.max() <= found.threshold[unit])


@given(draw_maps(np.float16), LEVELS)
@example(np.full((1, 1, 1, 1), -0.0, np.float16), 0.005)
@example(np.array([-65504, 65504, TINY16, -TINY16], np.float16).reshape(1, 1, 2, 2), 0.25)
def test_float16_thresholds_are_exact(maps, quantile):
    check_exact(maps, quantile)


@given(draw_maps(np.float32), LEVELS)
@example(np.array([1, np.nextafter(np.float32(1), np.float32(2))], np.float32).reshape(1, 1, 1, 2), 0.5)
@example(np.array([-3.4e38, 3.4e38, TINY32, -TINY32], np.float32).reshape(1, 1, 2, 2), 0.25)
def test_float32_thresholds_are_exact(maps, quantile):
    check_exact(maps, quantile)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_thresholds_of_many_values_are_exact(dtype):
    rng = np.random.default_rng(0)
    maps = np.stack([rng.normal(size=(40, 9, 9)), rng.lognormal(size=(40, 9, 9)), -rng.random((40, 9, 9))])
    for quantile in (0.005, 0.0049, 0.3):
        check_exact(maps.astype(dtype), quantile)


def test_hand_computed_threshold():
    maps = np.arange(1001, dtype=np.float32).reshape(1, 1, 1, 1001)
    found = thresholds_of(maps, 0.005)
    assert found.threshold[0] == 995.0  # rank 1000 * 0.995
    assert found.exceeding_fraction[0] == 5 / 1001
    assert thresholds_of(maps[..., :4], 0.5).threshold[0] == 1.5


def test_a_unit_that_never_exceeds_its_threshold_is_dead():
    maps = np.zeros((4, 10, 10, 10), np.float16)
    maps[1, 0, 0, :5] = 2  # rank 994.005 of 1000 values lies between 0 and 2
    maps[2, 0, 0, :6] = 2  # it lies among the 2
    maps[3] = -1
    maps[3, 0, 0, 0] = 5
    found = thresholds_of(maps)
    np.testing.assert_allclose(found.threshold, [0, 0.01, 2, -1], rtol=1e-9)
    assert found.dead.tolist() == [True, False, True, False]
    assert found.exceeding_fraction.tolist() == [0, 0.005, 0, 0.001]


@given(draw_maps(np.float16), st.data())
def test_counts_of_shards_add_up(maps, data):
    cut = data.draw(st.integers(0, maps.shape[1]))
    shards = [(maps[:, :cut], 1), (maps[:, cut:], 1)]
    whole = count_activations(lambda: iter([(maps, 1)]), len(maps))
    np.testing.assert_array_equal(count_activations(lambda: iter(shards), len(maps)), whole)
    assert whole.sum(axis=1).tolist() == [maps[0].size] * len(maps)


@pytest.mark.parametrize("held", [2, 500, 2**26])
@given(maps=draw_maps(np.float16), data=st.data())
def test_counts_of_maps_that_come_in_parts(held, maps, data):
    """Whenever they are counted, and however small the integers that hold the counts."""
    cut = data.draw(st.integers(0, maps.shape[1]))
    counts = PatternCounts(len(maps), maps[0].size)
    with mock.patch.object(counting, "HELD_BYTES", held):
        for part in (maps[:, :cut], maps[:, cut:]):
            counts.add(part)
    whole = count_activations(lambda: iter([(maps, 1)]), len(maps))
    np.testing.assert_array_equal(counts.finish(), whole)
    assert counts.counts.dtype == np.uint8 and maps[0].size < 256
    for rule in ("exact", "published"):
        found, expected = (thresholds_from_counts(part, np.float16, 0.1, rule) for part in (counts.counts, whole))
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize(
    ("values", "dtype"), [(255, "uint8"), (256, "uint16"), (65536, "uint32"), (2**32 - 1, "uint32"), (2**32, "uint64")]
)
def test_counts_cannot_overflow(values, dtype):
    assert counting_dtype(values) == dtype


def test_maps_wait_until_there_are_as_many_values_as_bins():
    maps = np.ones((3, 64, 16, 16), np.float16)  # 16,384 values a unit
    counts = PatternCounts(3, 4 * 16384)
    for _ in range(3):
        counts.add(maps)
        assert not counts.counts.any()
    counts.add(maps)
    assert counts.counts[:, 0x3C00].tolist() == [65536] * 3 and counts.counts.dtype == np.uint32


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@given(data=st.data())
def test_replaced_images_are_an_exact_update(dtype, data):
    clean = data.draw(draw_maps(dtype))
    replaced = np.array(data.draw(st.lists(st.booleans(), min_size=clean.shape[1], max_size=clean.shape[1])))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    new = rng.normal(size=clean[:, replaced].shape).astype(dtype)
    after = clean.copy()
    after[:, replaced] = new
    chunks = lambda: iter([(clean, 1), (clean[:, replaced], -1), (new, 1)])  # noqa: E731
    updated = count_activations(chunks, len(clean))
    np.testing.assert_array_equal(updated, count_activations(lambda: iter([(after, 1)]), len(clean)))
    found, expected = thresholds_from_counts(updated, dtype, 0.02, "exact", chunks), thresholds_of(after, 0.02)
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), values)


def test_taking_all_out_leaves_nothing():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float16)
    counts = np.zeros((2, BINS), np.int64)
    add_counts(counts, maps)
    assert counts.sum() == maps.size
    add_counts(counts, maps, weight=-1)
    assert not counts.any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weights_of_images_are_repetitions(dtype):
    maps = np.random.default_rng(1).normal(size=(5, 11, 3, 3)).astype(dtype)
    weights = np.array([0, 1, 2, 3, 0, 0, 1, 1, 4, 1, 0])
    (found,) = thresholds_of_runs([(ArrayMaps(maps, block=4), weights)], 0.02, "exact")
    expected = layer_thresholds(ArrayMaps(np.repeat(maps, weights, axis=1)), 0.02, "exact")
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), values)
    np.testing.assert_array_equal(
        expected.threshold, np.quantile(np.repeat(maps, weights, axis=1).astype(float).reshape(5, -1), 0.98, axis=1)
    )


def published_threshold(values):
    """The published code's read-out, as its notes spell it out."""
    values = np.sort(values.astype(np.float32).ravel())
    n = len(values)
    places = np.concatenate([[0], ((np.arange(1, n + 1) - 0.5) / n).astype(np.float32), [1]])
    return np.float32(np.interp(LEVEL_PUBLISHED, places, np.concatenate([values[:1], values, values[-1:]])))


@given(draw_maps(np.float32))
def test_published_rule_is_the_published_recipe(maps):
    found = thresholds_of(maps, rule="published").threshold
    expected = np.array([published_threshold(values) for values in maps], float)
    scale = np.abs(maps.astype(float)).reshape(len(maps), -1).max(axis=1)
    assert (np.abs(found - expected) <= 1e-6 * scale + TINY32).all()
    check_exceeding(maps, "published")


def check_exceeding(maps, rule):
    found = thresholds_of(maps, rule=rule)
    exceeding = maps.reshape(len(maps), -1) > found.threshold[:, None]
    np.testing.assert_allclose(found.exceeding_fraction, exceeding.mean(axis=1), rtol=1e-12)
    assert found.dead.tolist() == (~exceeding.any(axis=1)).tolist()


def test_a_threshold_that_is_rounded_up_to_a_value_is_not_exceeded_by_it():
    maps = np.ones((1, 1, 10, 10), np.float32)
    maps[0, 0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))
    check_exceeding(maps, "published")
    check_exceeding(maps, "exact")
    assert thresholds_of(maps, rule="published").dead[0]
    assert not thresholds_of(maps).dead[0]


def test_published_rule_on_many_values():
    maps = np.random.default_rng(2).normal(size=(4, 100, 10, 10)).astype(np.float32)
    expected = [published_threshold(values) for values in maps]
    assert thresholds_of(maps, rule="published").threshold.tolist() == expected
    assert (thresholds_of(maps).threshold != expected).all()


@pytest.mark.parametrize("block", [10, 15])
def test_golden_thresholds_of_stored_features(golden, block):
    subset = np.load(golden(f"block{block}/features_subset.npz"))
    baseline = np.load(golden(f"block{block}/baseline.npz"))
    maps = ArrayMaps(subset["features"].transpose(1, 0, 2, 3), block=7, unit_chunk=5)
    units = subset["units"]
    published = layer_thresholds(maps, 0.005, "published").threshold
    assert published.astype(np.float32).tobytes() == baseline["thresholds"][units].tobytes()
    exact = layer_thresholds(maps, 0.005, "exact").threshold
    np.testing.assert_allclose(exact, baseline["q995_linear"][units], rtol=1e-12)


def test_golden_synthetic_thresholds(golden):
    expected = np.load(golden("synthetic/expected.npz"))
    features = np.load(golden("synthetic/features_all14.npy"))[expected["kept_rows"]]
    maps = ArrayMaps(features.transpose(1, 0, 2, 3))
    published = layer_thresholds(maps, 0.005, "published")
    assert published.threshold.astype(np.float32).tobytes() == expected["thresholds"].tobytes()
    assert published.dead[4]  # the constant unit
    np.testing.assert_allclose(
        layer_thresholds(maps, 0.005, "exact").threshold, expected["q995_linear"], rtol=1e-12, atol=1e-12
    )
