"""Upsampling as matrices is torch's, and what carries a region down is its transpose."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from nemesis.dissection.upsample import bilinear_matrix, carry_down, upsample

sides = st.integers(1, 19)
shapes = st.tuples(sides, sides)
seeds = st.integers(0, 999)


def torch_upsample(maps, size):
    return F.interpolate(torch.from_numpy(maps).float(), size, mode="bilinear", align_corners=False).numpy()


def test_four_pixels_over_two_cells():
    np.testing.assert_array_equal(bilinear_matrix(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_array_equal(bilinear_matrix(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_array_equal(bilinear_matrix(1, 3), [[1], [1], [1]])


@given(sides, sides)
def test_the_matrix_is_torchs_on_unit_vectors(cells, pixels):
    columns = F.interpolate(torch.eye(cells)[None], pixels, mode="linear", align_corners=False)[0]
    matrix = bilinear_matrix(cells, pixels)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, columns.numpy().T, atol=2e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


@given(shapes, shapes, seeds)
def test_upsampling_is_torchs(shape, size, seed):
    maps = np.random.default_rng(seed).normal(size=(2, 3, *shape)).astype(np.float32)
    np.testing.assert_allclose(upsample(maps, size), torch_upsample(maps, size), atol=2e-5)


@pytest.mark.parametrize("shape", [(14, 14), (7, 9), (112, 112), (128, 5), (1, 1)])
@pytest.mark.parametrize("size", [(112, 112), (32, 77)])
def test_upsampling_at_real_sizes(shape, size):
    maps = np.random.default_rng(0).normal(size=(1, 2, *shape)).astype(np.float16)
    found = upsample(maps, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch_upsample(maps, size), atol=1e-4)


@given(shapes, shapes, seeds)
def test_weights_carried_down_sum_the_region(shape, size, seed):
    rng = np.random.default_rng(seed)
    maps, regions = rng.normal(size=(3, *shape)).astype(np.float32), rng.random((3, *size)) < rng.random()
    weights = carry_down(regions, shape)
    assert weights.dtype == np.float32
    assert weights.shape == maps.shape
    for weight, cells, up, region in zip(weights, maps, torch_upsample(maps[None], size)[0], regions, strict=True):
        assert np.sum(weight * cells, dtype=float) == pytest.approx(up[region].sum(dtype=float), abs=1e-3)
        assert weight.sum() == pytest.approx(region.sum(), rel=1e-5)


@given(st.tuples(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8])), seeds)
def test_the_transpose_is_exact_where_floats_are(shape, seed):
    rng = np.random.default_rng(seed)
    maps, regions = rng.integers(-99, 99, (2, *shape)), rng.random((2, 16, 8)) < 0.5
    weights, up = carry_down(regions, shape), upsample(maps, (16, 8))
    assert np.sum(weights * maps, axis=(1, 2)).tolist() == np.sum(up * regions, axis=(1, 2)).tolist()


def test_a_cached_matrix_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        bilinear_matrix(3, 7)[0, 0] = 5
