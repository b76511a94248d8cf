"""Regions of a label map: the pixels that carry the same labels on every plane."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemesis.probes.probe import find_regions, id_type
from nemesis.stores import read


@given(st.integers(0, 9999), st.integers(1, 4), st.sampled_from([(1, 1), (4, 5), (7, 2)]), st.sampled_from([2, 300]))
def test_the_labels_of_its_region_are_those_of_a_pixel(seed, planes, size, concepts):
    labels = np.random.default_rng(seed).integers(0, concepts, (3, planes, *size)).astype(np.uint16)
    labels[1, planes // 2] = 0
    found = find_regions(labels)
    assert (found.ids.dtype, found.ids.shape, found.size) == (np.uint16, (3, *size), size)
    for ids, table, maps in zip(found.ids, found.labels, labels, strict=True):
        np.testing.assert_array_equal(table[ids].transpose(2, 0, 1), maps)
        assert len({tuple(row) for row in table.tolist()}) == len(table)
        assert np.unique(ids).tolist() == list(range(len(table)))
        assert table.tolist() == sorted(table.tolist())


def test_a_map_of_one_label_is_one_region():
    found = find_regions(np.full((1, 2, 3, 3), 7, np.uint16))
    assert (found.ids.tolist(), found.labels[0].tolist()) == ([[[0] * 3] * 3], [[7, 7]])


@pytest.mark.parametrize(("size", "dtype"), [((256, 256), "uint16"), ((256, 257), "uint32")])
def test_every_pixel_may_be_a_region(size, dtype):
    assert id_type(size) == dtype


@pytest.mark.parametrize("numbers", [[0], [11, 3, 3], list(range(12))])
def test_a_probe_has_the_regions_of_its_labels(tiny, numbers):
    found, expected = tiny.probe.take_regions(numbers), find_regions(tiny.probe.take_labels(numbers))
    assert found.ids.dtype == expected.ids.dtype
    np.testing.assert_array_equal(found.ids, expected.ids)
    for ours, theirs in zip(found.labels, expected.labels, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_store_counts_the_regions_of_each_image(tiny):
    counts, labels = read(tiny.probe.store["region_count"]), read(tiny.probe.store["region_labels"])
    assert len(labels) == counts.sum()
    assert labels.shape[1] == tiny.probe.store["labels"].shape[1]
    assert (read(tiny.probe.store["regions"]).max(axis=(1, 2)) == counts - 1).all()
