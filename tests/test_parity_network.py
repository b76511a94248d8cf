"""From photographs to labels: a real network through the real path, beside the published code's outputs."""

import numpy as np
import pytest
import torch

from nemesis.dissection.dissect import Run, dissect_layer
from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images
from nemesis.dissection.stored import open_maps
from nemesis.dissection.tally import compute_iou
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.models.network import LayerReader
from nemesis.models.registry import build_network

pytestmark = pytest.mark.arithmetic

LAYERS = {"blocks.10": "block10", "blocks.15": "block15"}


@pytest.fixture(scope="module")
def stores(camvid, tmp_path_factory):
    """{dtype: {layer: opened maps}} of the 48 photographs."""
    network = build_network("efficientnet_lite0", {"kind": "efficientnet_lite0"})
    folder, opened = tmp_path_factory.mktemp("maps"), {}
    with LayerReader(network, LAYERS, "cpu") as reader:
        for dtype in ("float32", "float16"):
            store = folder / f"{dtype}.zarr"
            extract_activations(reader.read, probe_images(camvid.probe), store, ExtractionSettings(16, dtype=dtype))
            opened[dtype] = {layer: open_maps(store, layer) for layer in LAYERS}
    return opened


@pytest.fixture(params=LAYERS)
def layer(request):
    return request.param


@pytest.fixture
def baseline(golden, layer):
    return np.load(golden(f"{LAYERS[layer]}/baseline.npz"))


def relative(found, expected) -> float:
    """Sum of the differences over the sum of the values."""
    return np.abs(np.asarray(found, float) - expected).sum() / np.asarray(expected, float).sum()


def wrong_labels(numbers, iou, tolerance=0.0) -> np.ndarray:
    """Units whose label is not among the best of the published IoU (exact ties are equally good)."""
    best = iou.max(axis=1)
    return np.flatnonzero(iou[np.arange(len(iou)), numbers] < best - tolerance)


def test_stored_maps_are_the_published_features(stores, layer, golden):
    subset = np.load(golden(f"{LAYERS[layer]}/features_subset.npz"))
    expected = subset["features"].transpose(1, 0, 2, 3)
    full = stores["float32"][layer].read(slice(0, 48))[subset["units"]]
    np.testing.assert_allclose(full, expected, rtol=0, atol=1e-3)
    half = stores["float16"][layer].read(slice(0, 48))[subset["units"]]
    np.testing.assert_allclose(half, expected, rtol=2**-10, atol=1e-3)


def test_thresholds_are_the_published_ones(stores, layer, baseline):
    maps = stores["float32"][layer]
    scale = baseline["feature_std"]
    for rule, name in (("exact", "q995_linear"), ("published", "thresholds")):
        difference = np.abs(layer_thresholds(maps, 0.005, rule).threshold - baseline[name]) / scale
        print(f"{layer}: {rule} thresholds differ by at most {difference.max():.1e} standard deviations")
        assert difference.max() < 1e-4
    half = layer_thresholds(stores["float16"][layer], 0.005, "exact").threshold
    print(f"{layer}: float16 thresholds by at most {(np.abs(half - baseline['q995_linear']) / scale).max():.1e}")
    np.testing.assert_allclose(half, baseline["q995_linear"], rtol=2**-10)


def test_tally_and_labels_at_the_published_thresholds(stores, layer, baseline, camvid):
    run = Run(stores["float32"][layer], baseline["thresholds"])
    ((tally, iou, table),) = dissect_layer([run], camvid.probe, camvid.concepts, "cpu", "published")
    pairs = {
        "intersection": (tally.intersection, baseline["tally_both"]),
        "unit area": (tally.unit_area, baseline["tally_units_cat"]),
        "unit total": (tally.unit_total, baseline["tally_units"]),
        "iou": (iou, baseline["iou"]),
        "iou, Eq. 4": (
            compute_iou(tally, torch.from_numpy(camvid.concepts.category_of), "equation4"),
            baseline["iou_eq4"],
        ),
    }
    np.testing.assert_array_equal(tally.concept_area.numpy(), baseline["tally_labels"])
    for name, (found, expected) in pairs.items():
        largest = np.abs(np.asarray(found) - expected).max()
        print(f"{layer}: {name} differs by {relative(found, expected):.1e} of its sum, at most by {largest:.3g}")
        assert relative(found, expected) < 1e-3
    numbers = table["number"].to_numpy()
    wrong = wrong_labels(numbers, baseline["iou"])
    print(f"{layer}: {len(numbers) - len(wrong)} of {len(numbers)} labels are the published ones")
    assert wrong.tolist() == []


def test_labels_with_half_precision_and_exact_thresholds(stores, layer, baseline, camvid):
    maps = stores["float16"][layer]
    run = Run(maps, layer_thresholds(maps, 0.005, "exact").threshold)
    ((_, iou, table),) = dissect_layer([run], camvid.probe, camvid.concepts, "cpu", "published")
    numbers = table["number"].to_numpy()
    labelled = baseline["iou"].max(axis=1) >= 0.04
    right = np.ones(len(numbers), bool)
    right[wrong_labels(numbers, baseline["iou"])] = False
    print(f"{layer}: same label for {right.mean():.1%} of all {len(right)} units")
    print(f"{layer}: same label for {right[labelled].mean():.1%} of the {labelled.sum()} with IoU >= 0.04")
    print(f"{layer}: IoU differs by {relative(iou, baseline['iou']):.1e} of its sum")
    assert labelled.sum() >= 6
    assert right.mean() >= 0.95
    assert right[labelled].mean() >= 0.97


def test_half_precision_alone_changes_few_labels(stores, layer, baseline, camvid):
    """The published rule on float16 maps: what storing 16 bits does, and nothing else."""
    maps = stores["float16"][layer]
    run = Run(maps, layer_thresholds(maps, 0.005, "published").threshold)
    ((_, iou, table),) = dissect_layer([run], camvid.probe, camvid.concepts, "cpu", "published")
    wrong = wrong_labels(table["number"].to_numpy(), baseline["iou"])
    gap = baseline["iou"].max(axis=1)[wrong] - baseline["iou"][wrong, table["number"].to_numpy()[wrong]]
    print(f"{layer}: {len(wrong)} of {len(table)} labels differ, whose IoU was within {gap.max(initial=0):.1e}")
    assert relative(iou, baseline["iou"]) < 5e-3
    assert len(wrong) <= 0.01 * len(table)
    assert gap.max(initial=0) < 1e-3
