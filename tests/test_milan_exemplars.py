"""Exemplars beside the published code's, beside slow ones, and through the store."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_probe import ArrayMaps
from torch import nn

from nemesis.dissection.draws import resample_weights
from nemesis.errors import InputError
from nemesis.milan.exemplars import (
    Changed,
    ExemplarSettings,
    change_exemplars,
    collect_exemplars,
    exemplar_masks,
    framed_matrix,
    resize_pictures,
    to_bytes,
)
from nemesis.milan.peaks import find_levels, find_peaks, key_values, sort_keys, top_images

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RAW = ((0, 0, 0), (1, 1, 1))
SMALL = st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1.0, 3.0])


@pytest.fixture(scope="module")
def published(shared):
    return np.load(shared("golden/milan/exemplars.npz"))


@pytest.fixture(scope="module")
def inplace_maps(published, shared):
    """Maps (6, 64, 16, 16) of the golden network's conv1, after the ReLU that follows in place."""
    state = torch.load(shared("golden/milan/exemplar_model.pth"), weights_only=True)
    convolution = nn.Conv2d(3, 6, 3, stride=2, padding=1)
    parts = {name.removeprefix("conv1."): part for name, part in state.items() if name.startswith("conv1.")}
    convolution.load_state_dict(parts)
    with torch.inference_mode():
        maps = convolution(torch.from_numpy(published["images"]).float() / 255).relu()
    return maps.numpy().transpose(1, 0, 2, 3)


def collect_published(published, maps, size, quantile=0.99, units=None, normalisation=RAW):
    units = np.arange(len(maps)) if units is None else units
    images = lambda numbers: published["images"][numbers]  # noqa: E731
    return collect_exemplars(ArrayMaps(maps), images, units, ExemplarSettings(5, quantile, size, normalisation))


def compare(found, published, case: str, levels_tolerance=1e-5, images=True):
    np.testing.assert_array_equal(found.ids, published[f"{case}/ids"])
    np.testing.assert_allclose(found.activations, published[f"{case}/activations"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.levels, published[f"{case}/levels"], rtol=0, atol=levels_tolerance)
    np.testing.assert_array_equal(np.asarray(found.masks), published[f"{case}/saved_masks"].astype(bool))
    if images:
        np.testing.assert_array_equal(found.pictures[found.picture.ravel()], _flat(published[f"{case}/saved_images"]))


def _flat(images):
    return images.reshape(-1, *images.shape[2:])


def test_case_a(published):
    maps = published["acts/conv2"].transpose(1, 0, 2, 3)
    compare(collect_published(published, maps, 32), published, "A_conv2_out32")


def test_case_a_masks_at_224_px(published):
    maps = published["acts/conv2"].transpose(1, 0, 2, 3)
    expected = np.unpackbits(published["A_conv2_masks224_packed"], axis=-1).astype(bool)
    found = np.asarray(collect_published(published, maps, 224).masks)[:, :, 0]
    off = int((found != expected).sum())
    print(f"{off} of {expected.sum()} mask pixels differ")
    assert off <= 5


def test_case_b_normalised_dataset(published):
    maps = published["acts/conv2_normalised_input"].transpose(1, 0, 2, 3)
    compare(collect_published(published, maps, 48, normalisation=IMAGENET), published, "B_conv2_norm_out48")


def test_case_c_more_values_than_the_sketch_holds(published, inplace_maps):
    case = "C_conv1_inplace_out32"
    found = collect_published(published, inplace_maps, 32)
    np.testing.assert_array_equal(found.ids, published[f"{case}/ids"])
    np.testing.assert_allclose(found.activations, published[f"{case}/activations"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.levels, published[f"{case}/exact_levels_postrelu"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(published[f"{case}/levels"], found.levels, rtol=0.02)
    at_their_levels = exemplar_masks(
        _flat(find_peaks(inplace_maps, 5, 0.99).maps), np.repeat(published[f"{case}/levels"], 5), 32
    )
    np.testing.assert_array_equal(at_their_levels, _flat(published[f"{case}/saved_masks"])[:, 0].astype(bool))
    np.testing.assert_array_equal(found.pictures[found.picture.ravel()], _flat(published[f"{case}/saved_images"]))


def test_case_d_some_units_and_the_median(published):
    maps = published["acts/relu2"].transpose(1, 0, 2, 3)
    found = collect_published(published, maps, 32, quantile=0.5, units=[1, 3, 6])
    compare(found, published, "D_relu2_units_q50")


def test_case_e_levels_after_an_inplace_relu(published, inplace_maps):
    case = "E_conv1_inplace_q25"
    found = collect_published(published, inplace_maps, 32, quantile=0.25)
    np.testing.assert_array_equal(found.ids, published[f"{case}/ids"])
    zero = published[f"{case}/levels"] == 0
    assert zero.any()
    np.testing.assert_array_equal(found.levels == 0, zero)
    masks = np.asarray(found.masks)
    np.testing.assert_array_equal(masks[zero], published[f"{case}/saved_masks"][zero].astype(bool))


def test_levels_of_other_quantiles(published):
    maps = published["acts/conv2"].transpose(1, 0, 2, 3)
    for index, quantile in enumerate(published["quantiles/q"]):
        expected = published["quantiles/values"][:, index]
        np.testing.assert_allclose(find_levels(maps, float(quantile)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["7x7_to_32x32", "8x8_to_32x32", "1x1_to_8x8", "5x7_to_20x21", "13x13_to_56x56", "2x2_to_6x6"]
)
def test_upsampling(published, name):
    maps, expected = published[f"upsample/{name}/in"], published[f"upsample/{name}/out"]
    rows, columns = (framed_matrix(*pair) for pair in zip(maps.shape[-2:], expected.shape[-2:], strict=True))
    np.testing.assert_allclose(rows @ maps @ columns.T, expected, rtol=0, atol=1e-5)


def test_bytes_are_truncated_as_published(published):
    images = published["renorm/imagenet_in"]
    expected = published["renorm/byte_out"]
    np.testing.assert_array_equal(to_bytes(images.reshape(1, 3, 1, -1), *IMAGENET).reshape(expected.shape), expected)


def test_without_truncation_bytes_stay(published):
    maps = published["acts/conv2"].transpose(1, 0, 2, 3)
    found = collect_published(published, maps, 32, normalisation=None)
    np.testing.assert_array_equal(found.pictures[found.picture.ravel()], published["images"][found.ids.ravel()])


# Hand-computed


def test_hand_computed_peaks():
    maps = np.array([[[[1.0, 2.0]], [[5.0, 0.0]], [[5.0, 4.0]], [[3.0, -1.0]]]], np.float16)  # (1, 4, 1, 2)
    found = find_peaks(maps, 3, 0.75)
    assert found.ids.tolist() == [[1, 2, 3]]  # 5, 5 (the lower number first), 3
    assert found.activations.tolist() == [[5, 5, 3]]
    # sorted: -1 0 1 2 3 4 5 5; 0.75 lies at 8 * 0.75 - 0.5 = 5.5, between 4 and 5
    assert found.levels.tolist() == [4.5]
    np.testing.assert_array_equal(found.maps, maps[:, [1, 2, 3]])
    assert find_levels(maps, 0.0).tolist() == [-1]
    assert find_levels(maps, 1.0).tolist() == [5]


def test_hand_computed_masks():
    maps = np.array([[[4.0, 0.0]]], np.float16)  # one row, so values fade along x alone
    # at 4 px: x = -0.25, 0.25, 0.75, 1.25 -> 3, 3, 1, 0
    assert exemplar_masks(maps, np.array([2.9]), 4)[0].tolist() == [[True, True, False, False]] * 4
    assert exemplar_masks(maps, np.array([3.0]), 4).sum() == 0  # strictly greater
    assert exemplar_masks(maps, np.array([-0.1]), 4).all()
    assert exemplar_masks(-maps, np.array([-3.5]), 4).all()  # the zero frame is above a level below zero


def test_pictures_are_resized_to_the_nearest_pixel():
    pictures = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4).repeat(3, axis=1)
    assert resize_pictures(pictures, 2)[0, 0].tolist() == [[0, 2], [8, 10]]
    assert resize_pictures(pictures[:, :, :2, :2], 4)[0, 0].tolist() == [[0, 0, 1, 1]] * 2 + [[4, 4, 5, 5]] * 2
    assert resize_pictures(pictures, 4) is pictures


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60))
def test_resizing_picks_the_pixels_of_torch(height, width, size):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), dtype=np.uint8)
    expected = torch.nn.functional.interpolate(torch.from_numpy(pictures), size=(size, size), mode="nearest")
    np.testing.assert_array_equal(resize_pictures(pictures, size), expected.numpy())


# Against slow ones


@st.composite
def draw_maps(draw, dtype=None):
    """Maps (U, N, h, w) with many ties, signs and both zeros."""
    dtype = dtype or draw(st.sampled_from([np.float16, np.float32]))
    shape = draw(st.tuples(*(st.integers(1, n) for n in (4, 9, 3, 4))))
    wide = st.floats(-60000, 60000, width=np.dtype(dtype).itemsize * 8)
    return draw(arrays.arrays(dtype, shape, elements=draw(st.sampled_from([SMALL, wide]))))


@given(draw_maps(), st.sampled_from([0.99, 0.5, 0.25, 0.9, 0.001]), st.data())
def test_peaks_are_those_of_a_plain_sort(maps, quantile, data):
    k = data.draw(st.integers(1, maps.shape[1]))
    found = find_peaks(maps, k, quantile)
    for unit, values in enumerate(maps.astype(np.float64)):
        highest = values.max(axis=(1, 2))
        order = sorted(range(len(highest)), key=lambda image, highest=highest: (-highest[image], image))[:k]
        assert found.ids[unit].tolist() == order
        np.testing.assert_array_equal(found.activations[unit], highest[order])
        np.testing.assert_array_equal(found.maps[unit], maps[unit, order])
        expected = np.quantile(values, quantile, method="hazen")
        np.testing.assert_allclose(found.levels[unit], expected, rtol=1e-6, atol=1e-6)


@given(arrays.arrays(np.float16, 60, elements=st.floats(width=16, allow_nan=False)))
@example(np.array([-0.0, 0.0, np.inf, -np.inf, 65504, -65504, 6e-8, -6e-8], np.float16))
def test_keys_are_in_the_order_of_the_values(values):
    keys = sort_keys(values)
    np.testing.assert_array_equal(keys[:, None] < keys, values[:, None] < values)
    np.testing.assert_array_equal(key_values(keys), values)


@given(draw_maps(np.float16), st.integers(1, 3), st.integers(1, 9), st.integers(1, 30))
def test_peaks_do_not_depend_on_chunks_or_company(maps, step, block, size):
    source, settings = ArrayMaps(maps, block, step), ExemplarSettings(1, 0.9, size)
    images = lambda numbers: np.zeros((len(numbers), 3, 2, 2), np.uint8)  # noqa: E731
    whole = collect_exemplars(source, images, range(len(maps)), settings)
    order = np.random.default_rng(step).permutation(len(maps))
    mixed = collect_exemplars(source, images, order, settings)
    for name in ("ids", "activations", "levels"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(whole, name)[order])
    for row, unit in enumerate(order):
        np.testing.assert_array_equal(mixed.masks[row], whole.masks[int(unit)])
        alone = collect_exemplars(source, images, [unit], settings)
        np.testing.assert_array_equal(alone.masks[0], whole.masks[int(unit)])


def test_groups_of_units_are_bounded(monkeypatch):
    maps = np.random.default_rng(0).normal(size=(11, 7, 3, 3)).astype(np.float16)
    expected = find_peaks(maps, 2, 0.9)
    for module, name in (("peaks", "GROUP_BYTES"), ("peaks", "CACHE_BYTES"), ("peaks", "READ_BYTES")):
        monkeypatch.setattr(f"nemesis.milan.{module}.{name}", 2 * maps[0].nbytes + 1)
    images, settings = lambda numbers: np.zeros((len(numbers), 3, 2, 2), np.uint8), ExemplarSettings(2, 0.9, 4)
    found = collect_exemplars(ArrayMaps(maps, 3, 4), images, [10, 2, 3, 9, 0], settings)
    for name in ("ids", "activations", "levels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[[10, 2, 3, 9, 0]])


@given(draw_maps(), st.integers(0, 5))
def test_a_resampled_probe_is_an_explicitly_repeated_one(maps, replicate):
    weights = resample_weights(maps.shape[1], replicate, 3)
    k = int((weights > 0).sum())
    found = find_peaks(maps, k, 0.9, weights)
    repeated = find_peaks(np.repeat(maps, weights, axis=1), int(weights.sum()), 0.9)
    image_of = np.repeat(np.arange(maps.shape[1]), weights)
    np.testing.assert_array_equal(found.levels, repeated.levels)
    for unit, ids in enumerate(repeated.ids):
        once = list(dict.fromkeys(image_of[ids].tolist()))  # each image at its first place
        assert found.ids[unit].tolist() == once


def pictures_of(images):
    return lambda numbers: images[numbers]


@given(draw_maps(), st.data())
def test_changes_give_the_exemplars_of_the_whole_corrupted_probe(maps, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    units, count = maps.shape[:2]
    images = rng.integers(0, 256, (count, 3, 5, 4), dtype=np.uint8)
    settings, changes, expected = ExemplarSettings(data.draw(st.integers(1, count)), 0.9, 6), [], []
    for _ in range(data.draw(st.integers(1, 4))):
        unit = data.draw(st.integers(0, units - 1))
        chosen = np.sort(rng.permutation(count)[: data.draw(st.integers(0, count))])
        corrupted, pictures = maps.copy(), images.copy()
        corrupted[:, chosen] = (2 * rng.normal(size=corrupted[:, chosen].shape)).astype(maps.dtype)
        pictures[chosen] = rng.integers(0, 256, pictures[chosen].shape, dtype=np.uint8)
        changes.append(Changed(unit, chosen, corrupted[unit, chosen], pictures_of(pictures)))
        whole = collect_exemplars(ArrayMaps(corrupted), pictures_of(pictures), [unit], settings)
        expected.append(whole)
    found = change_exemplars(ArrayMaps(maps), changes, pictures_of(images), settings)
    for row, whole in enumerate(expected):
        assert found.unit[row] == whole.unit[0]
        for name in ("ids", "activations", "levels"):
            np.testing.assert_array_equal(getattr(found, name)[row], getattr(whole, name)[0])
        np.testing.assert_array_equal(found.masks[row], whole.masks[0])
        np.testing.assert_array_equal(found.pictures[found.picture[row]], whole.pictures[whole.picture[0]])


@pytest.mark.parametrize("weights", [None, np.array([2, 2, 2, 0, 0, 0])])
def test_more_exemplars_than_images(weights):
    maps = np.zeros((2, 6, 2, 2), np.float16)
    message = "milan.exemplars: 7 images a unit are wanted, but .* 6" if weights is None else "4 .* of 6 has 3; lower"
    with pytest.raises(InputError, match=message):
        find_peaks(maps, 7 if weights is None else 4, 0.9, weights)


def test_ties_go_to_the_lower_number():
    highest = np.array([[0, 1, 1, 0, 1], [-0.0, 0.0, -0.0, 0.0, -1]])
    for dtype in (np.float16, np.float32):
        assert top_images(highest.astype(dtype), 4).tolist() == [[1, 2, 4, 0], [0, 1, 2, 3]]
