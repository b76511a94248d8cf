"""Maps of a partly corrupted probe are those of the clean one, but for the corrupted images."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemesis.corruption.mixed import mix_maps
from nemesis.dissection.stored import StoredMaps

COUNT, UNITS = 11, 4
subsets = st.lists(st.integers(0, COUNT - 1), unique=True).map(sorted)


def store_of(maps, image):
    return StoredMaps(maps, None, np.array(image, np.uint32))


@given(st.data())
def test_any_slice_of_any_choice(data):
    rng = np.random.default_rng(0)
    clean, corrupted = rng.random((2, UNITS, COUNT, 3, 2))
    stored = data.draw(subsets)
    chosen = sorted(data.draw(st.lists(st.sampled_from(stored), unique=True))) if stored else []
    expected = np.where(np.isin(np.arange(COUNT), chosen)[None, :, None, None], corrupted, clean)
    mixed = mix_maps(store_of(clean, range(COUNT)), store_of(corrupted[:, stored], stored), np.array(chosen, int))
    start = data.draw(st.integers(0, COUNT - 1))
    stop = data.draw(st.integers(start + 1, COUNT))
    first = data.draw(st.integers(0, UNITS - 1))
    units = data.draw(st.sampled_from([slice(None), slice(first, UNITS), slice(first, first + 1)]))
    np.testing.assert_array_equal(mixed.read(slice(start, stop), units), expected[units, start:stop])
    np.testing.assert_array_equal(mixed.read(slice(0, COUNT)), expected)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(clean, rng.random((2, UNITS, COUNT, 3, 2))[0])  # reading changes no store


@pytest.mark.parametrize(("stored", "chosen"), [([1, 3], [2]), ([1, 3], [3, 4]), ([], [0]), ([5, 6], [0, 5])])
def test_a_corrupted_image_that_is_not_there(stored, chosen):
    maps = np.zeros((UNITS, COUNT, 3, 2))
    with pytest.raises(KeyError, match="lacks images"):
        mix_maps(store_of(maps, range(COUNT)), store_of(maps[:, stored], stored), np.array(chosen))


def test_sizes_are_those_of_the_clean_store():
    maps = SimpleNamespace(shape=(UNITS, COUNT, 3, 2), chunks=(2, 5, 3, 2))
    mixed = mix_maps(store_of(maps, range(COUNT)), store_of(maps, [1]), np.array([1]))
    assert (mixed.units, mixed.count, mixed.unit_chunk, mixed.block) == (UNITS, COUNT, 2, 5)
