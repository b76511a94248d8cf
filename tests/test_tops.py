"""The strongest images of a unit, against a sort of all of its maps."""

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from nemesis.corruption.mixed import mix_maps
from nemesis.dissection.stored import StoredMaps
from nemesis.dissection.tops import find_mixed_tops, find_tops, open_tops, rank_images, write_tops


def hold(maps, image):
    array = zarr.create_array({}, data=maps, chunks=(2, 3, *maps.shape[2:]))
    return StoredMaps(array, zarr.create_array({}, data=maps.max(axis=(2, 3))), image)


def sort_slowly(maps, unit, count):
    order = sorted(range(maps.shape[1]), key=lambda number: (-float(maps[unit, number].max()), number))
    return order[:count]


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(2, 12), st.booleans())
def test_tops_of_clean_and_mixed_probes(seed, units, images, ties):
    rng = np.random.default_rng(seed)
    high = 3 if ties else 1000
    clean, other = (rng.integers(0, high, (units, images, 2, 3)).astype(np.float16) for _ in range(2))
    wanted = np.sort(rng.permutation(units)[: rng.integers(1, units + 1)])
    store, corrupted = hold(clean, np.arange(images)), hold(other, np.arange(images))
    chosen = [np.sort(rng.permutation(images)[:count]) for count in (1, images)]
    thresholds = rng.random((2, units))
    found = find_mixed_tops([mix_maps(store, corrupted, one) for one in chosen], wanted, thresholds, {})
    for setting, numbers in enumerate(chosen):
        mixed = clean.copy()
        mixed[:, numbers] = other[:, numbers]
        for row, unit in enumerate(wanted):
            expected = sort_slowly(mixed, unit, 5)
            assert found.ids[setting, row].tolist() == expected
            assert (found.maps[setting, row] == mixed[unit, expected]).all()
            assert found.threshold[setting, row] == thresholds[setting, unit]
    alone = find_tops(store, wanted, thresholds[0])
    assert [list(ids) for ids in alone.ids[0]] == [sort_slowly(clean, unit, 5) for unit in wanted]


def test_stored_tops_are_read_back(tmp_path):
    maps = np.random.default_rng(0).normal(size=(3, 6, 2, 2)).astype(np.float16)
    store = hold(maps, np.arange(6))
    runs = [mix_maps(store, store, np.arange(count)) for count in (2, 4)]
    columns = {"fraction": np.array([0.5, 1.0]), "seed": np.array([0, 3])}
    tops = find_mixed_tops(runs, [0, 2], np.zeros((2, 3)), columns)
    write_tops(tmp_path / "tops.zarr", tops, "hash", [])
    found = open_tops(tmp_path / "tops.zarr")
    for name in ("unit", "ids", "threshold", "maps"):
        assert (getattr(found, name) == getattr(tops, name)).all()
    assert found.find(fraction=1.0, seed=3) == 1
    with pytest.raises(IndexError):
        found.find(fraction=0.7, seed=0)


def test_ties_go_to_the_lower_number():
    assert rank_images(np.array([1, 5, 3, 5, 2, 0]), 4).tolist() == [1, 3, 2, 4]
