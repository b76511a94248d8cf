"""A layer whose maps are not stored gives the same bytes as one whose maps are."""

import dataclasses
import logging
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import zarr
from designed_layer import LAYER, tiny_network

from nemesis.corruption.mixed import NoisyMaps
from nemesis.corruption.noisy import compare_noisy, dissect_noisy, draw_noisy, find_noisy_tops
from nemesis.dissection import stored
from nemesis.dissection.clean import dissect_clean, write_dissection
from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images
from nemesis.dissection.rerun import Recipe, Rerun, rerun_probe
from nemesis.dissection.stored import StreamedMaps, open_maps
from nemesis.dissection.thresholds import write_thresholds
from nemesis.dissection.tops import find_tops
from nemesis.errors import InputError
from nemesis.models.network import LayerReader
from nemesis.perturb.noise import draw_seed

pytestmark = pytest.mark.arithmetic

SETTINGS = {"quantile": 0.05, "threshold": "exact", "iou": "published", "min_iou": 0.04, "null_replicates": 3}
SETTINGS["seed"] = 7
NOISE = {"seed": 5, "fraction": 0.75, "storage": "lossless"}
DRAWS, FRACTIONS = (0, 3), (0.25, 0.75)


def recipe_of(batch: int) -> Recipe:
    recipe = Recipe("tiny", {}, None, "float16", batch, "cpu")
    vars(recipe)["network"] = tiny_network()  # it is cached
    return recipe


def extract(probe, path, batch, limit, source=None, dtype="float16"):
    """Store the maps of a probe, or those of its corrupted images, which are not counted."""
    counted = source is None
    settings = ExtractionSettings(batch, dtype=dtype, max_store_gb=limit, counted=counted)
    with LayerReader(tiny_network(), [LAYER], "cpu", pad_to=batch) as reader:
        extract_activations(reader.read, source or probe_images(probe), path, settings)


def open_noisy(probe, out, batch: int, limit) -> dict:
    """The noisy maps of every draw by (name, seed)."""
    noisy = {}
    for draw in DRAWS:
        extract(probe, out / f"{draw}.zarr", batch, limit, draw_noisy(probe, "gaussian", 0.3, NOISE, draw))
        again = Rerun(recipe_of(batch), draw_noisy(probe, "gaussian", 0.3, NOISE, draw), probe.size)
        noisy[draw, draw_seed(NOISE["seed"], draw)] = open_maps(out / f"{draw}.zarr", LAYER, again)
    return noisy


def dissect_all(tiny, out, batch: int, limit) -> dict:
    """Every result of the clean probe and of noise: bytes by name."""
    probe, concepts = tiny.probe, tiny.concepts
    extract(probe, out / "maps.zarr", batch, limit)
    write_thresholds(out / "maps.zarr", LAYER, out / "thresholds.csv", SETTINGS["quantile"], SETTINGS["threshold"])
    outputs = {name: out / f"{name}.csv" for name in ("dissection", "null_churn")} | {"tally": out / "tally.zarr"}
    clean = open_maps(out / "maps.zarr", LAYER, rerun_probe(recipe_of(batch), probe))
    thresholds = pd.read_csv(out / "thresholds.csv")["threshold"].to_numpy()
    write_dissection(dissect_clean(clean, thresholds, probe, concepts, SETTINGS), concepts, outputs, SETTINGS)
    labels = pd.read_csv(out / "dissection.csv", keep_default_na=False)
    noisy = NoisyMaps(clean, open_noisy(probe, out, batch, limit), FRACTIONS)
    runs = dissect_noisy(noisy, probe, concepts, "cpu", SETTINGS)
    tops = find_noisy_tops(runs, [0, 2, 3])
    compare_noisy(runs, labels, [0, 2, 3]).to_csv(out / "noise.csv")
    tally = zarr.open_group(out / "tally.zarr", mode="r")
    found = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    found |= {f"tops of {name}": getattr(tops, name).tobytes() for name in ("ids", "threshold", "maps")}
    return found | {name: array[...].tobytes() for name, array in tally.arrays()}


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_streamed_layer_gives_the_same_bytes(tiny, tmp_path, batch):
    found = {}
    for name, limit in (("stored", None), ("streamed", 0)):
        (tmp_path / name).mkdir()
        found[name] = dissect_all(tiny, tmp_path / name, batch, limit)
        assert len(list((tmp_path / name).glob("*.zarr/*/maps"))) == (3 if name == "stored" else 0)
    assert found["streamed"] == found["stored"]
    assert {"thresholds.csv", "dissection.csv", "null_churn.csv", "noise.csv", "intersection"} <= set(found["stored"])
    table = pd.read_csv(tmp_path / "streamed/noise.csv")
    assert 0 < table["manipulated"].mean() < 1 and len(set(table["label"])) > 2


@pytest.fixture
def both(tiny, tmp_path):
    """The same maps, stored and streamed."""
    extract(tiny.probe, tmp_path / "stored.zarr", 5, None)
    extract(tiny.probe, tmp_path / "streamed.zarr", 5, 0)
    again = rerun_probe(recipe_of(5), tiny.probe)
    return open_maps(tmp_path / "stored.zarr", LAYER), open_maps(tmp_path / "streamed.zarr", LAYER, again)


def test_any_part_of_a_streamed_layer_is_that_of_the_stored_one(both):
    stored_maps, streamed = both
    for name in ("units", "count", "shape", "dtype"):
        assert getattr(streamed, name) == getattr(stored_maps, name)
    assert (streamed.block, streamed.unit_chunk) == (5, 5)
    np.testing.assert_array_equal(streamed.max[...], stored_maps.max[...])
    for images in (slice(0, 12), slice(3, 4), slice(4, 11), slice(5, 10)):
        np.testing.assert_array_equal(streamed.read(images), stored_maps.read(images))
        np.testing.assert_array_equal(streamed.read(images, slice(1, 3)), stored_maps.read(images, slice(1, 3)))
        np.testing.assert_array_equal(streamed.read_units(images, [4, 0, 4]), stored_maps.read_units(images, [4, 0, 4]))
    rng = np.random.default_rng(0)
    units, rows = rng.integers(0, 5, 30), rng.integers(0, 12, 30)
    np.testing.assert_array_equal(streamed.pick(units, rows), stored_maps.pick(units, rows))


def test_a_block_is_made_once_while_it_is_needed(both):
    _, streamed = both
    made = []
    counted = dataclasses.replace(
        streamed, again=lambda *place: made.append(place) or streamed.again(*place), held=OrderedDict()
    )
    for start in (0, 2, 6, 0, 5, 7):
        counted.read(slice(start, start + 3))
    counted.read(slice(10, 12))
    counted.read(slice(0, 2))
    assert made == [(LAYER, 0, 5), (LAYER, 5, 10), (LAYER, 10, 12), (LAYER, 0, 5)]
    assert len(counted.held) == stored.HELD


def test_pictures_of_a_streamed_layer_need_no_network(both, tmp_path):
    stored_maps, _ = both
    found, expected = (
        find_tops(maps, [0, 3], np.zeros(5)) for maps in (open_maps(tmp_path / "streamed.zarr", LAYER), stored_maps)
    )
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.maps, expected.maps)


def test_other_maps_of_a_streamed_layer_need_a_network(both, tmp_path):
    alone = open_maps(tmp_path / "streamed.zarr", LAYER)
    with pytest.raises(InputError, match=f"layer {LAYER}: its maps are not stored .dissection.max_store_gb"):
        alone.read(slice(0, 1))
    weakest = int(np.argmin(both[0].max[0]))
    with pytest.raises(InputError, match=r"raise max_store_gb, or leave the layer out of designed\.layers"):
        alone.pick(np.array([0]), np.array([weakest]))


def test_a_layer_is_streamed_above_the_limit_only(tiny, tmp_path, caplog):
    size = 5 * 12 * 10 * 10 * 2 / 1e9  # GB
    with caplog.at_level(logging.INFO):
        extract(tiny.probe, tmp_path / "at.zarr", 5, size)
        assert "streamed" not in caplog.text
        extract(tiny.probe, tmp_path / "above.zarr", 5, 0.999 * size)
    assert isinstance(open_maps(tmp_path / "above.zarr", LAYER), StreamedMaps)
    assert not isinstance(open_maps(tmp_path / "at.zarr", LAYER), StreamedMaps)
    assert f"layer {LAYER}: 1.2e-05 GB of maps are not stored (dissection.max_store_gb 1.1988e-05)" in caplog.text


def test_float32_maps_are_not_streamed(tiny, tmp_path):
    with pytest.raises(InputError, match=r"layer 2: .* GB .* only float16 maps can be streamed; set dissection.dtype"):
        extract(tiny.probe, tmp_path / "maps.zarr", 5, 0, dtype="float32")
    assert not list(tmp_path.iterdir())
