"""Measures of stored images against hand-computed values and scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from nemesis.perturb import quality
from nemesis.perturb.quality import MEASURES


def compare_images(clean, stored):
    return quality.compare_images(*(torch.from_numpy(np.ascontiguousarray(images)) for images in (clean, stored)))


def slow_ssim(before, after):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(before.astype(float), after.astype(float), channel_axis=0, data_range=255, **options)


def noise_of(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, *size))


def slope_of(size, low, high):
    return np.broadcast_to(np.linspace(low, high, size[0] * size[1]).reshape(size), (3, *size))


def clip(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def test_hand_computed():
    clean = np.full((3, 3, 11, 12), 100, np.uint8)
    stored = clean.copy()
    stored[0, 0, 0, 0], stored[0, 2, 5, 5] = 103, 96
    stored[1] = 110
    found = compare_images(clean, stored)
    assert set(found) == set(MEASURES)
    assert found["linf"].tolist() == [4, 10, 0]
    np.testing.assert_allclose(found["l2"], [5, 10 * np.sqrt(396), 0], rtol=1e-12)
    np.testing.assert_allclose(found["psnr"][:2], [10 * np.log10(255**2 / (25 / 396)), 20 * np.log10(25.5)], rtol=1e-12)
    assert found["psnr"][2] == np.inf
    c1 = (0.01 * 255) ** 2  # flat images differ in their means alone
    assert found["ssim"][1] == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1), abs=1e-4)
    assert all(values.shape == (3,) and values.dtype == float for values in found.values())


def test_images_in_the_unit_interval_are_scaled():
    clean = clip(noise_of((2, 14, 15)).transpose(1, 0, 2, 3))[:2]
    stored = np.clip(clean / 255 + 0.01, 0, 1).astype(np.float32)
    found = compare_images(clean, stored)
    np.testing.assert_allclose(found["linf"], 2.55, atol=1e-4)
    same = compare_images(clean, (clean / 255).astype(np.float32))
    assert (same["linf"] < 1e-4).all()
    assert (same["psnr"] > 100).all()


PAIRS = {
    "noise against noise": (noise_of((32, 32)), noise_of((32, 32), 1)),
    "noise, a little changed": (noise_of((32, 40)), noise_of((32, 40)) + noise_of((32, 40), 1) % 9 - 4),
    "slope, a little changed": (slope_of((40, 32), 20, 230), slope_of((40, 32), 20, 230) + noise_of((40, 32)) % 5 - 2),
    "bright slope, brighter": (slope_of((24, 24), 230, 250), slope_of((24, 24), 232, 252)),
    "bright and flat, a little changed": (0 * noise_of((20, 20)) + 250, 250 + noise_of((20, 20)) % 3 - 1),
    "black against white": (np.zeros((3, 16, 16)), np.full((3, 16, 16), 255)),
    "one window": (noise_of((11, 11)), noise_of((11, 11), 1)),
    "large": (noise_of((112, 112)), noise_of((112, 112)) // 2),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_ssim_is_scikit_images(pair):
    before, after = (clip(values) for values in PAIRS[pair])
    assert compare_images(before[None], after[None])["ssim"][0] == pytest.approx(slow_ssim(before, after), abs=1e-4)


@pytest.mark.parametrize("value", [noise_of((32, 32)), slope_of((32, 32), 240, 255), np.full((3, 32, 32), 255)])
def test_equal_images(value):
    images = clip(value)[None]
    found = compare_images(images, images)
    assert (found["linf"][0], found["l2"][0], found["psnr"][0]) == (0, 0, np.inf)
    assert found["ssim"][0] == pytest.approx(1, abs=1e-6)


def test_an_image_does_not_depend_on_the_others():
    images = np.stack([clip(noise_of((20, 20), seed)) for seed in range(4)])
    whole = compare_images(images, images[::-1].copy())
    for index in range(4):
        alone = compare_images(images[index : index + 1], images[3 - index][None])
        for name in MEASURES:
            assert alone[name][0] == pytest.approx(whole[name][index], rel=1e-6)
