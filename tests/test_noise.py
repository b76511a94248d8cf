"""Noise depends on the seed, the image and the kind alone, and has the size that it says."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_tally import slow_iou, slow_tally
from tiny_probe import CATEGORIES

from nemesis.corruption.mixed import NoisyMaps
from nemesis.corruption.noisy import compare_noisy, dissect_noisy, find_noisy_tops, noisy_images
from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images
from nemesis.dissection.stored import open_maps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.errors import InputError
from nemesis.perturb.noise import StoredNoise, add_noise, choose_images, draw_noise, draw_seed
from nemesis.stores import blocks

KINDS = ["gaussian", "uniform", "bernoulli"]
SHAPE = (3, 100, 100)


def load_in_pieces(source, size):
    return np.concatenate([source.load(start, stop) for start, stop in blocks(len(source.numbers), size)])


@pytest.mark.parametrize("kind", [*KINDS, "none"])
@pytest.mark.parametrize("storage", ["lossless", "float", "jpeg-90"])
def test_batches_do_not_show(tiny, kind, storage):
    sources = {size: noisy_images(tiny.probe, StoredNoise(kind, 0.1, storage), 0.8, 7) for size in (1, 7, 64)}
    whole = load_in_pieces(sources[64], 64)
    assert whole.shape == (10, 3, 32, 32)
    for size, source in sources.items():
        assert load_in_pieces(source, size).tobytes() == whole.tobytes()
        for name in ("linf", "mse"):
            np.testing.assert_array_equal(source.record[name], sources[64].record[name])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_does_not_depend_on_the_others(tiny, kind):
    noise = StoredNoise(kind, 0.05, "lossless")
    few, many = (noisy_images(tiny.probe, noise, fraction, 3) for fraction in (0.25, 1.0))
    everything = many.load(0, 12)
    for position, number in enumerate(few.numbers):
        np.testing.assert_array_equal(few.load(position, position + 1)[0], everything[number])
        expected = np.rint(255 * add_noise(tiny.probe.images(number, number + 1)[0], kind, 0.05, 3, number))
        np.testing.assert_array_equal(everything[number], expected)
    assert few.names == [tiny.probe.names[number] for number in few.numbers]


def test_what_was_stored_is_recorded(tiny):
    source = noisy_images(tiny.probe, StoredNoise("gaussian", 0.1, "lossless"), 1.0, 0)
    difference = source.load(0, 12).astype(float) - tiny.probe.images(0, 12)
    np.testing.assert_allclose(source.record["linf"], np.abs(difference).max(axis=(1, 2, 3)))
    np.testing.assert_allclose(source.record["mse"], np.square(difference).mean(axis=(1, 2, 3)), rtol=1e-6)
    none = noisy_images(tiny.probe, StoredNoise("none", 0.0, "lossless"), 1.0, 0)
    np.testing.assert_array_equal(none.load(0, 12), tiny.probe.images(0, 12))
    assert not none.record["linf"].any()


def test_gaussian_noise():
    noise = draw_noise("gaussian", 0.05, SHAPE, 1, 2)
    assert abs(noise.mean()) < 5 * 0.05 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(0.05, rel=0.02)
    assert np.mean(np.abs(noise) < 0.05) == pytest.approx(0.6827, abs=0.015)
    assert np.mean(np.abs(noise) < 0.10) == pytest.approx(0.9545, abs=0.01)


def test_uniform_noise():
    noise = draw_noise("uniform", 0.05, SHAPE, 1, 2)
    assert abs(noise.mean()) < 5 * 0.05 / np.sqrt(3 * noise.size)
    assert noise.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.02)
    assert -0.05 <= noise.min() < -0.0499
    assert 0.0499 < noise.max() <= 0.05


def test_bernoulli_noise():
    noise = draw_noise("bernoulli", 0.05, (3, 33, 31), 1, 2)
    assert set(np.unique(noise)) == {np.float32(-0.05), np.float32(0.05)}
    assert abs(np.mean(noise > 0) - 0.5) < 5 * 0.5 / np.sqrt(noise.size)


def test_no_noise():
    assert not draw_noise("none", 0.05, SHAPE, 1, 2).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_again_and_otherwise_different(kind):
    noise = draw_noise(kind, 0.05, SHAPE, 1, 2)
    assert noise.dtype == np.float32
    np.testing.assert_array_equal(draw_noise(kind, 0.05, SHAPE, 1, 2), noise)
    others = [draw_noise(kind, 0.05, SHAPE, *place) for place in ((1, 3), (2, 2), (2, 1), (0, 0))]
    others += [draw_noise(other, 0.05, SHAPE, 1, 2) for other in KINDS if other != kind]
    for other in others:
        assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(noise.size)


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_std_scales_the_same_draw(kind):
    np.testing.assert_allclose(draw_noise(kind, 0.06, SHAPE, 1, 2), 3 * draw_noise(kind, 0.02, SHAPE, 1, 2), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_corrupted_images_stay_images(kind):
    for value in (0, 255):
        image = np.full((3, 20, 20), value, np.uint8)
        noisy = add_noise(image, kind, 0.3, 0, 0)
        expected = np.clip(value / 255 + draw_noise(kind, 0.3, image.shape, 0, 0), 0, 1)
        np.testing.assert_allclose(noisy, expected, atol=1e-7)
        assert noisy.dtype == np.float32
        assert 0 <= noisy.min() < noisy.max() <= 1
        assert 0.3 < (noisy == value / 255).mean() < 0.7  # what would have left [0, 1]


@given(st.integers(1, 300), st.lists(st.floats(0, 1), min_size=2, max_size=5), st.integers(0, 9))
def test_smaller_fractions_choose_a_subset(count, fractions, seed):
    chosen = [choose_images(count, fraction, seed) for fraction in sorted(fractions)]
    for fraction, numbers in zip(sorted(fractions), chosen, strict=True):
        assert abs(len(numbers) - fraction * count) <= 0.5
        assert sorted(set(numbers.tolist())) == numbers.tolist()
        assert set(numbers.tolist()) <= set(range(count))
    for smaller, larger in pairwise(chosen):
        assert set(smaller.tolist()) <= set(larger.tolist())


def test_the_choice_is_random_and_repeats_itself():
    times = sum(np.bincount(choose_images(50, 0.2, seed), minlength=50) for seed in range(200))
    assert 15 < times.min() < 40 < times.max() < 70  # 40 of 200 expected, standard deviation 5.7
    np.testing.assert_array_equal(choose_images(50, 0.2, 3), choose_images(50, 0.2, 3))
    assert choose_images(50, 0.2, 3).tolist() != choose_images(50, 0.2, 4).tolist()
    assert choose_images(5, 1.0, 0).tolist() == [0, 1, 2, 3, 4]


def test_seeds_of_draws_differ():
    seeds = {draw_seed(seed, draw) for seed in range(20) for draw in range(20)}
    assert len(seeds) == 400
    assert draw_seed(1, 2) == draw_seed(1, 2)


def test_no_image_to_corrupt_is_one_line(tiny):
    with pytest.raises(InputError, match=r"noise\.fractions: 0\.01 of 12 images is none"):
        noisy_images(tiny.probe, StoredNoise("gaussian", 0.1, "lossless"), 0.01, 0)


def run_pixels(images):
    """A network of four units that see brightness, its opposite, red against green, and rows."""
    pixels = images.float() if images.is_floating_point() else images.float() / 255
    pixels = pixels.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5))  # (B, 3, 8, 8)
    bright = pixels.mean(dim=1, keepdim=True)
    return {"layer": torch.cat([bright, -bright, pixels[:, :1] - pixels[:, 1:2], bright.cumsum(dim=2)], dim=1)}


def test_dissection_under_noise_is_that_of_the_corrupted_images(tiny, tmp_path):
    """Mixed stores, incremental in images, against corrupting, extracting and counting everything anew."""
    settings = {"quantile": 0.05, "threshold": "exact", "iou": "published"}
    extract_activations(run_pixels, probe_images(tiny.probe), tmp_path / "clean.zarr", ExtractionSettings(5))
    clean = open_maps(tmp_path / "clean.zarr", "layer")
    found = layer_thresholds(clean, 0.05, "exact")
    ((_, _, labels),) = dissect_layer([Run(clean, found.threshold)], tiny.probe, tiny.concepts, "cpu", "published")
    seeds, noisy = {0: draw_seed(0, 0), 4: draw_seed(0, 4)}, {}
    for draw, seed in seeds.items():
        source = noisy_images(tiny.probe, StoredNoise("gaussian", 0.4, "lossless"), 0.75, seed)
        extract_activations(run_pixels, source, tmp_path / f"{draw}.zarr", ExtractionSettings(5, counted=False))
        noisy[draw, seed] = open_maps(tmp_path / f"{draw}.zarr", "layer")
    runs = dissect_noisy(NoisyMaps(clean, noisy, [0.25, 0.75]), tiny.probe, tiny.concepts, "cpu", settings)
    table, tops = compare_noisy(runs, labels, range(4)), find_noisy_tops(runs, range(4))
    assert tops.columns["fraction"].tolist() == [0.25, 0.75, 0.25, 0.75] and tops.ids.shape == (4, 4, 5)
    assert table[["fraction", "seed", "unit"]].to_numpy().tolist() == [
        [fraction, draw, unit] for fraction in (0.25, 0.75) for draw in (0, 4) for unit in range(4)
    ]
    planes, category_of = [row.planes() for row in tiny.rows], tiny.concepts.category_of
    rows = iter(table.to_dict("records"))
    for fraction in (0.25, 0.75):
        for seed in seeds.values():
            expected = slow_labels(tiny, fraction, seed, planes, category_of)
            for unit, (name, iou) in enumerate(expected):
                row = next(rows)
                assert (row["label"], row["clean_label"]) == (name, labels["label"][unit])
                assert row["iou"] == pytest.approx(iou, rel=1e-12)
                assert row["manipulated"] == (name != labels["label"][unit])
                assert row["clean_iou"] == labels["iou"][unit]
                assert row["rms"] == pytest.approx(stored_rms(tiny, fraction, seed), rel=1e-5)
                assert row["linf"] == np.abs(corrupt(tiny, fraction, seed) - 1.0 * tiny.probe.images(0, 12)).max()
    assert 0 < table["manipulated"].mean() < 1


def corrupt(tiny, fraction, seed):
    """All images, a fraction of them corrupted."""
    images = tiny.probe.images(0, 12).copy()
    for number in choose_images(12, fraction, seed):
        images[number] = np.rint(255 * add_noise(images[number], "gaussian", 0.4, seed, int(number)))
    return images


def stored_rms(tiny, fraction, seed):
    """Root of the mean squared difference over the corrupted images."""
    squared = np.square(corrupt(tiny, fraction, seed) - 1.0 * tiny.probe.images(0, 12)).mean(axis=(1, 2, 3))
    return np.sqrt(squared[choose_images(12, fraction, seed)].mean())


def slow_labels(tiny, fraction, seed, planes, category_of):
    """(label, IoU) of each unit when a fraction of the images is corrupted, found the long way."""
    maps = (
        run_pixels(torch.from_numpy(corrupt(tiny, fraction, seed)))["layer"].transpose(0, 1).numpy().astype(np.float16)
    )
    thresholds = np.quantile(maps.reshape(4, -1).astype(float), 0.95, axis=1)
    both, area, _, concept_area = slow_tally(maps, thresholds, planes, category_of, len(CATEGORIES), (16, 16))
    iou = slow_iou(both, area[:, category_of], concept_area)
    best = iou.argmax(axis=1)  # the first of a tie is the lower number
    return [
        (tiny.concepts.names[number] if iou[unit, number] else "", iou[unit, number])
        for unit, number in enumerate(best)
    ]
