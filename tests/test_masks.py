"""The mask found tile by tile is the upsampled map above the threshold."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nemesis.dissection import masks
from nemesis.dissection.masks import mask_pixels

SIZES = [
    ((7, 7), (112, 112)),
    ((14, 14), (112, 112)),
    ((4, 4), (4, 4)),
    ((5, 5), (16, 16)),
    ((6, 9), (31, 17)),
    ((3, 8), (50, 20)),
    ((1, 1), (9, 7)),
    ((1, 5), (12, 11)),
    ((5, 1), (3, 13)),
    ((12, 12), (5, 5)),
    ((13, 6), (4, 30)),
    ((2, 2), (1, 1)),
]


@pytest.fixture(autouse=True, params=["tiles", "whole maps", "as chosen"])
def way(request, monkeypatch):
    """Both ways to find a mask, whatever the sizes."""
    if request.param != "as chosen":
        monkeypatch.setattr(masks, "SMALL_TILE", 0 if request.param == "tiles" else 10**9)
    return request.param


def mask_of(maps, thresholds, size):
    """The mask as a boolean array (P, Hs, Ws); a pixel found twice fails."""
    mask = np.zeros((len(maps), size[0] * size[1]), int)
    for pair, pixel, _ in mask_pixels(torch.from_numpy(maps), torch.from_numpy(thresholds), size):
        np.add.at(mask, (pair.numpy(), pixel.numpy()), 1)
    assert mask.max(initial=0) <= 1
    return mask.reshape(-1, *size).astype(bool)


@pytest.mark.parametrize(("cells", "size"), SIZES)
def test_values_above_a_higher_threshold_are_the_mask_of_that_threshold(cells, size):
    maps = np.random.default_rng(1).integers(0, 4, (40, *cells)).astype(np.float32)  # plateaus at thresholds
    low = np.full(40, 0.7, np.float32)
    parts = list(mask_pixels(torch.from_numpy(maps), torch.from_numpy(low), size))
    pair, pixel, value = (np.concatenate([part.numpy() for part in column]) for column in zip(*parts, strict=True))
    assert (value > 0.7).all()
    for threshold in (1.0, 1.5, 2.0, 3.0):
        mask = np.zeros((40, size[0] * size[1]), bool)
        mask[pair[value > threshold], pixel[value > threshold]] = True
        higher = np.full(40, threshold, np.float32)
        np.testing.assert_array_equal(mask.reshape(-1, *size), mask_of(maps, higher, size))


@pytest.mark.parametrize(("cells", "size"), SIZES)
@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_mask_is_the_upsampled_map_above_the_threshold(cells, size, quantile):
    rng = np.random.default_rng(sum(cells) + sum(size))
    maps = (10 * rng.normal(size=(40, *cells))).astype(np.float32)
    thresholds = np.quantile(maps, quantile, axis=(1, 2)).astype(np.float32) + rng.normal(size=40).astype(np.float32)
    upsampled = F.interpolate(torch.from_numpy(maps)[:, None], size, mode="bilinear", align_corners=False)[:, 0].numpy()
    clear = np.abs(upsampled - thresholds[:, None, None]) > 1e-5  # maps reach 40: 1e-6 of them is noise
    found, expected = mask_of(maps, thresholds, size), upsampled > thresholds[:, None, None]
    assert clear.mean() > 0.999
    assert expected.any() or quantile > 0.9
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_hand_computed_mask():
    maps = np.array([[[0, 4]]], np.float32)  # upsampled to four pixels: 0, 1, 3, 4
    expected = {-1: [1, 1, 1, 1], 0: [0, 1, 1, 1], 1: [0, 0, 1, 1], 2.5: [0, 0, 1, 1], 3: [0, 0, 0, 1], 4: [0] * 4}
    for threshold, row in expected.items():
        found = mask_of(maps, np.array([threshold], np.float32), (2, 4))
        assert found.astype(int).tolist() == [[row, row]]


def test_labels_as_large_as_the_map_need_no_upsampling():
    maps = np.random.default_rng(0).integers(0, 4, (6, 9, 5)).astype(np.float32)
    thresholds = np.array([0, 1, 2, 3, -1, 1.5], np.float32)
    np.testing.assert_array_equal(mask_of(maps, thresholds, (9, 5)), maps > thresholds[:, None, None])


@pytest.mark.parametrize("value", [-3.0, 0.0, 0.1, 1 / 3])
def test_a_constant_map_has_no_mask(value):
    maps = np.full((1, 7, 7), value, np.float32)
    assert not mask_of(maps, maps[:, 0, 0].copy(), (31, 45)).any()
    assert mask_of(maps, np.nextafter(maps[:, 0, 0] - 1e-3, np.float32(-9)), (31, 45)).all()


def test_small_parts_give_the_same_mask(monkeypatch, way):
    rng = np.random.default_rng(3)
    maps, thresholds = rng.normal(size=(9, 6, 6)).astype(np.float32), np.zeros(9, np.float32)
    whole = mask_of(maps, thresholds, (40, 40))
    monkeypatch.setattr(masks, "TILE_BYTES", 1)
    parts = list(mask_pixels(torch.from_numpy(maps), torch.from_numpy(thresholds), (40, 40)))
    assert len(parts) == 9 if way == "whole maps" else len(parts) > 100
    np.testing.assert_array_equal(mask_of(maps, thresholds, (40, 40)), whole)
