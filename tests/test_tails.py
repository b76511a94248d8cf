"""Thresholds of resampled and corrupted probes from their largest values equal those from all values."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_probe import ArrayMaps

from nemesis.corruption.mixed import mix_maps
from nemesis.dissection import tails
from nemesis.dissection.stored import StoredMaps
from nemesis.dissection.tails import collect_tail, order_keys, restore_values
from nemesis.dissection.thresholds import layer_thresholds, thresholds_of_runs

UNITS, COUNT = 5, 13
KINDS = {
    "signed": lambda rng, shape: rng.normal(size=shape),
    "sparse": lambda rng, shape: np.maximum(rng.normal(size=shape) - 2, 0),  # most are 0, as after ReLU
    "tied": lambda rng, shape: rng.integers(-2, 3, shape) * 0.5,
    "zeros": lambda rng, shape: np.where(rng.random(shape) < 0.5, -0.0, 0.0),
    "one image": lambda rng, shape: rng.random(shape) + 9 * (np.arange(shape[1]) == 3)[None, :, None, None],
}


class MemoryArray(np.ndarray):
    """An array with the chunks of a store."""

    chunks = (2, 4, 3, 3)


def store_of(maps, image):
    return StoredMaps(np.asarray(maps).view(MemoryArray), None, np.array(image, np.uint32))


def assert_thresholds(found, expected):
    for name, values in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_any_weights(dtype, kind, data):
    """A version that counts images so many times has the thresholds of a probe that repeats them."""
    maps = KINDS[kind](np.random.default_rng(data.draw(st.integers(0, 99))), (UNITS, COUNT, 3, 3)).astype(dtype)
    drawn = st.lists(st.integers(0, 4), min_size=COUNT, max_size=COUNT).filter(any)
    versions = [np.array(weights) for weights in data.draw(st.lists(drawn, min_size=1, max_size=3))]
    quantile, rule = (
        data.draw(st.sampled_from([0.005, 0.02, 0.2, 0.6])),
        data.draw(st.sampled_from(["exact", "published"])),
    )
    source = ArrayMaps(maps, block=data.draw(st.integers(1, COUNT)), unit_chunk=data.draw(st.integers(1, UNITS)))
    with mock.patch.object(tails, "SAMPLE_BYTES", data.draw(st.sampled_from([0, 10**9]))):
        found = thresholds_of_runs([(source, weights) for weights in versions], quantile, rule)
    for weights, thresholds in zip(versions, found, strict=True):
        repeated = ArrayMaps(np.repeat(maps, weights, axis=1))
        assert_thresholds(thresholds, layer_thresholds(repeated, quantile, rule))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@settings(max_examples=25)
@given(data=st.data())
def test_any_choice_of_corrupted_images(dtype, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    clean, corrupted = rng.normal(size=(2, UNITS, COUNT, 3, 3)).astype(dtype)
    subset = st.lists(st.integers(0, COUNT - 1), unique=True).map(lambda numbers: np.array(sorted(numbers), int))
    chosen = data.draw(st.lists(subset, min_size=1, max_size=3))
    stores = store_of(clean, range(COUNT)), store_of(corrupted, range(COUNT))
    weights = [data.draw(st.sampled_from([None, np.arange(COUNT) % 3])) for _ in chosen]
    runs = [(mix_maps(*stores, numbers), times) for numbers, times in zip(chosen, weights, strict=True)]
    found = thresholds_of_runs(runs, 0.05, "exact")
    for thresholds, numbers, times in zip(found, chosen, weights, strict=True):
        maps = np.where(np.isin(np.arange(COUNT), numbers)[None, :, None, None], corrupted, clean)
        maps = maps if times is None else np.repeat(maps, times, axis=1)
        assert_thresholds(thresholds, layer_thresholds(ArrayMaps(maps), 0.05, "exact"))


def test_a_version_without_the_images_that_excite_a_unit_falls_short_and_is_counted_whole():
    rng = np.random.default_rng(0)
    maps = KINDS["one image"](rng, (1, COUNT, 20, 20)).astype(np.float16)
    weights = np.ones(COUNT, int)
    weights[3] = 0
    tail = collect_tail([ArrayMaps(maps)], slice(0, 1), 0.005)
    assert tail.find(weights, 0.005, "exact")[1].tolist() == [0]
    (found,) = thresholds_of_runs([(ArrayMaps(maps), weights)], 0.005, "exact")
    assert found.threshold[0] == np.quantile(maps[0, weights > 0].astype(float), 0.995)


def test_little_is_gathered():
    maps = np.random.default_rng(0).normal(size=(3, 40, 10, 10)).astype(np.float16)
    tail = collect_tail([ArrayMaps(maps, block=7)], slice(0, 3), 0.005)
    assert 0.015 * maps.size < len(tail.place) < 0.025 * maps.size
    assert not len(tail.find(np.ones(40, int), 0.005, "exact")[1])


def test_each_store_is_read_once():
    maps = np.random.default_rng(0).normal(size=(4, 12, 3, 3)).astype(np.float16)
    with mock.patch.object(StoredMaps, "read", autospec=True, side_effect=StoredMaps.read) as read:
        store = store_of(maps, range(12))
        thresholds_of_runs([(store, np.arange(12) % number) for number in (2, 3, 4)], 0.2, "exact")
    assert read.call_count == 2 * 3  # groups of units x blocks of images


def test_no_runs():
    assert thresholds_of_runs([], 0.005, "exact") == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_keys_are_in_the_order_of_values(dtype):
    bits = np.arange(0, 2**16, dtype=np.uint16)
    values = (bits.view(np.float16) if dtype == np.float16 else (bits.astype(np.uint32) << 16).view(np.float32)).copy()
    values = values[np.isfinite(values)]
    keys = order_keys(values)
    order = np.argsort(keys, kind="stable")
    assert (np.diff(values[order].astype(float)) >= 0).all()
    assert ((np.diff(keys[order].astype(np.int64)) > 0) == (np.diff(values[order].astype(float)) > 0)).all()
    np.testing.assert_array_equal(restore_values(keys, dtype), values)
