"""Thresholds of versions of a streamed probe equal those of probes that repeat its images."""

import numpy as np
import pytest
from designed_layer import hold_maps
from tiny_probe import ArrayMaps

from nemesis.corruption.mixed import mix_maps
from nemesis.dissection import thresholds as thresholds_module
from nemesis.dissection.counts import count_activations
from nemesis.dissection.sinks import Strongest, keep_strongest
from nemesis.dissection.stored import StreamedMaps
from nemesis.dissection.thresholds import layer_thresholds, thresholds_of_runs

UNITS, COUNT = 4, 40
KINDS = {
    "signed": lambda rng, shape: rng.normal(size=shape),
    "negative": lambda rng, shape: -1 - rng.random(shape),
    "sparse": lambda rng, shape: np.maximum(rng.normal(size=shape) - 2, 0),  # most are 0, as after ReLU
    "tied": lambda rng, shape: rng.integers(-2, 3, shape) * 0.5,
    "zeros": lambda rng, shape: np.where(rng.random(shape) < 0.5, -0.0, 0.0),
    "one image": lambda rng, shape: rng.random(shape) + 9 * (np.arange(shape[1]) == 3)[None, :, None, None],
}


def stream(maps, block=7):
    """Maps in memory as a streamed layer."""
    counts = count_activations(lambda: [(maps, 1)], UNITS)
    again = lambda layer, start, stop: maps[:, start:stop]  # noqa: E731
    image = np.arange(maps.shape[1])
    return StreamedMaps("layer", maps.shape, maps.dtype, None, counts, None, image, {}, again, block)


def assert_thresholds(found, maps, quantile, rule):
    for name, values in vars(layer_thresholds(ArrayMaps(maps), quantile, rule)).items():
        np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("quantile", "rule"), [(0.005, "exact"), (0.02, "published"), (0.2, "exact"), (0.6, "exact")])
def test_any_weights(kind, quantile, rule):
    rng = np.random.default_rng(0)
    maps = KINDS[kind](rng, (UNITS, COUNT, 5, 5)).astype(np.float16)
    weights = [None, *rng.integers(0, 4, (2, COUNT)), (np.arange(COUNT) == 5).astype(np.int64)]
    source = stream(maps)
    found = thresholds_of_runs([(source, times) for times in weights], quantile, rule)
    for thresholds, times in zip(found, weights, strict=True):
        assert_thresholds(thresholds, maps if times is None else np.repeat(maps, times, axis=1), quantile, rule)


def test_corrupted_images_may_be_stored_or_streamed():
    rng = np.random.default_rng(1)
    clean, corrupted = rng.normal(size=(2, UNITS, COUNT, 5, 5)).astype(np.float16)
    chosen = [np.sort(rng.permutation(COUNT)[:count]) for count in (5, 30)]
    for store in (stream(corrupted), hold_maps(corrupted)):
        source = stream(clean)
        found = thresholds_of_runs([(mix_maps(source, store, numbers), None) for numbers in chosen], 0.02, "exact")
        for thresholds, numbers in zip(found, chosen, strict=True):
            mixed = clean.copy()
            mixed[:, numbers] = corrupted[:, numbers]
            assert_thresholds(thresholds, mixed, 0.02, "exact")


def test_all_values_are_counted_only_where_the_tail_is_too_short(monkeypatch):
    passes = []
    find = thresholds_module._find_thresholds
    monkeypatch.setattr(thresholds_module, "_find_thresholds", lambda *parts: passes.append(0) or find(*parts))
    maps = np.random.default_rng(2).normal(size=(UNITS, COUNT, 5, 5)).astype(np.float16)
    thresholds_of_runs([(stream(maps), None)], 0.02, "exact")
    assert len(passes) == 1
    weakest = (maps.max(axis=(0, 2, 3)).argmin() == np.arange(COUNT)).astype(np.int64)
    lowest = np.where(weakest[None, :, None, None], maps - 100, maps).astype(np.float16)
    found = thresholds_of_runs([(stream(lowest), weakest)], 0.02, "exact")
    assert len(passes) == 3
    assert_thresholds(found[0], lowest[:, weakest == 1], 0.02, "exact")


@pytest.mark.parametrize("values", [5, 1000])
def test_the_strongest_images_are_kept(values):
    rng = np.random.default_rng(3)
    maps = rng.integers(0, values, (UNITS, 23, 2, 3)).astype(np.float16)
    highest = maps.max(axis=(2, 3))
    empty = Strongest(np.zeros((UNITS, 0), np.int64), highest[:, :0], maps[:, :0])
    known = empty
    for start, stop in ((0, 3), (3, 4), (4, 20), (20, 23)):
        numbers = np.broadcast_to(np.arange(start, stop), (UNITS, stop - start))
        known = keep_strongest(known, Strongest(numbers, highest[:, start:stop], maps[:, start:stop]))
    for unit in range(UNITS):
        expected = sorted(range(23), key=lambda number: (-float(highest[unit, number]), number))[:5]
        assert known.image[unit].tolist() == expected
        np.testing.assert_array_equal(known.maps[unit], maps[unit, expected])
