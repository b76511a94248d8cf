"""What is read back when a corrupted image is stored."""

import io

import numpy as np
import pytest
from PIL import Image

from nemesis.perturb import storage
from nemesis.perturb.noise import add_noise
from nemesis.perturb.storage import store_image, stored_difference

EVERY_LEVEL = np.arange(768).reshape(3, 16, 16).astype(np.uint8)


@pytest.fixture
def smooth():
    """An image as smooth as a photograph."""
    y, x = np.mgrid[:48, :48] / 48
    return (255 * np.stack([x, y, (x + y) / 2])).astype(np.uint8)


@pytest.fixture
def noisy(smooth):
    return add_noise(smooth, "gaussian", 0.05, 0, 0)


def through_jpeg(pixels, **options):
    stream = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, "JPEG", **options)
    return np.asarray(Image.open(stream)).transpose(2, 0, 1)


def test_float_stores_what_it_is_given(noisy):
    stored = store_image(noisy, "float")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, noisy)


def test_lossless_rounds_to_the_nearest_level(noisy):
    stored = store_image(noisy, "lossless")
    assert stored.dtype == np.uint8
    assert np.abs(stored - 255.0 * noisy.astype(float)).max() <= 0.5 + 1e-4
    image = np.array([0, 0.49, 0.51, 1.49, 254.51, 255]).astype(np.float32).reshape(1, 1, 6) / 255
    assert store_image(image, "lossless").ravel().tolist() == [0, 0, 1, 1, 255, 255]


def test_clean_images_come_back(smooth):
    for clean in (smooth, EVERY_LEVEL):
        np.testing.assert_array_equal(store_image(add_noise(clean, "none", 0, 0, 0), "lossless"), clean)


def test_published_truncates(monkeypatch, noisy):
    monkeypatch.setattr(storage, "_through_jpeg", lambda image, quality, path: image)
    clean = add_noise(EVERY_LEVEL, "none", 0, 0, 0)
    np.testing.assert_array_equal(store_image(clean, "published"), EVERY_LEVEL)
    image = np.array([0, 0.9, 1.1, 254.99, 255]).astype(np.float32).reshape(1, 1, 5) / 255
    assert store_image(image, "published").ravel().tolist() == [0, 0, 1, 254, 255]
    assert store_image(image, "jpeg-90").ravel().tolist() == [0, 1, 1, 255, 255]
    lost = 255 * noisy - store_image(noisy, "published")
    assert 0.4 < lost[(noisy > 0.01) & (noisy < 0.99)].mean() < 0.6  # half a level on average


def test_published_is_the_librarys_default_jpeg(noisy):
    truncated = np.floor(255 * noisy).astype(np.uint8)
    stored = store_image(noisy, "published")
    np.testing.assert_array_equal(stored, through_jpeg(truncated))
    assert np.abs(stored.astype(int) - truncated).max() > 8


def test_jpeg_has_the_quality_that_is_asked_for(noisy):
    rounded = np.rint(255 * noisy).astype(np.uint8)
    losses = []
    for quality in (100, 95, 75, 20, 1):
        stored = store_image(noisy, f"jpeg-{quality}")
        np.testing.assert_array_equal(stored, through_jpeg(rounded, quality=quality))
        losses.append(np.square(stored.astype(float) - rounded).mean())
    assert losses == sorted(losses)
    assert losses[0] < losses[-1] / 3


def test_difference_is_in_levels():
    clean = np.array([[[10, 200], [0, 255]]], np.uint8)
    stored = np.array([[[12, 190], [0, 255]]], np.uint8)
    assert stored_difference(clean, stored) == (10.0, (4 + 100) / 4)
    largest, squared = stored_difference(clean, np.float32([[[11, 200], [2, 255]]]) / np.float32(255))
    assert largest == pytest.approx(2, abs=1e-4)
    assert squared == pytest.approx(5 / 4, abs=1e-3)
