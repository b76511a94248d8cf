"""An extraction in shards ends in the same bytes as one job."""

import numpy as np
import pytest
from designed_layer import LAYER, tiny_network

from nemesis import stores
from nemesis.corruption.noisy import draw_noisy
from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images, take_shard
from nemesis.dissection.gather import gather_activations
from nemesis.dissection.stored import open_maps
from nemesis.errors import InputError
from nemesis.models.network import LayerReader

pytestmark = pytest.mark.arithmetic

LAYERS = ("0", LAYER)
NOISE = {"seed": 5, "fraction": 0.75, "storage": "lossless"}


def noisy_source(probe):
    return draw_noisy(probe, "gaussian", 0.3, NOISE, 0)


def extract(source, path, inputs, layers=LAYERS, **options):
    settings = ExtractionSettings(7, config_hash="hash", inputs=inputs, code="code", **options)
    with LayerReader(tiny_network(), layers, "cpu", pad_to=7) as reader:
        extract_activations(reader.read, source, path, settings)


def extract_shards(make, probe, folder, count, inputs, **options):
    """The stores of `count` shards."""
    for shard in range(count):
        extract(take_shard(make(probe), shard, count), folder / f"{shard}.zarr", inputs, **options)
    return [folder / f"{shard}.zarr" for shard in range(count)]


def files_of(store):
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "input").write_text("what it was made from")
    return (tmp_path / "input",)


CASES = {  # images in a block, shards, source, options
    "whole blocks": (3, 4, probe_images, {}),
    "parts of blocks": (5, 3, probe_images, {}),
    "one block": (128, 9, noisy_source, {}),
    "noise": (2, 2, noisy_source, {"counted": False}),
    "float32": (5, 2, noisy_source, {"dtype": "float32"}),
    "streamed": (5, 3, probe_images, {"max_store_gb": 0}),
    "streamed noise": (2, 2, noisy_source, {"max_store_gb": 0, "counted": False}),
}


@pytest.mark.parametrize(("block", "shards", "make", "options"), CASES.values(), ids=CASES)
def test_shards_are_the_bytes_of_one_job(tiny, inputs, tmp_path, monkeypatch, block, shards, make, options):
    monkeypatch.setattr(stores, "MAX_BLOCK", block)
    extract(make(tiny.probe), tmp_path / "one.zarr", inputs, **options)
    parts = extract_shards(make, tiny.probe, tmp_path, shards, inputs, **options)
    gather_activations(parts, tmp_path / "all.zarr")
    found, expected = files_of(tmp_path / "all.zarr"), files_of(tmp_path / "one.zarr")
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_whole_blocks_are_linked(tiny, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "MAX_BLOCK", 4)  # blocks of images 0 to 3, 4 to 7, 8 to 11
    parts = extract_shards(probe_images, tiny.probe, tmp_path, 2, inputs)  # 0 to 5, 6 to 11
    gather_activations(parts, tmp_path / "all.zarr")
    links = {
        path.parts[-3]: path.stat().st_nlink
        for path in (tmp_path / "all.zarr" / LAYER / "maps/c/0").rglob("*")
        if path.is_file()
    }
    assert links == {"0": 2, "1": 1, "2": 2}


def test_a_chunk_that_a_shard_lacks_is_named(tiny, inputs, tmp_path):
    parts = extract_shards(probe_images, tiny.probe, tmp_path, 2, inputs)
    (parts[1] / LAYER / "maps/c/0/0/0/0").unlink()
    with pytest.raises(InputError, match=r"1\.zarr/2/maps/c/0/0/0/0: this chunk of a shard is missing; delete"):
        gather_activations(parts, tmp_path / "all.zarr")
    with pytest.raises(InputError, match=r"all\.zarr: not a readable zarr store"):
        open_maps(tmp_path / "all.zarr", LAYER)


def test_more_shards_than_images_are_one_line(tiny):
    with pytest.raises(InputError, match=r"extraction\.shards: 13 shards of 12 images; lower it to at most 12"):
        take_shard(probe_images(tiny.probe), 0, 13)


def test_a_bad_activation_in_a_shard_is_named(tiny, inputs, tmp_path):
    source = take_shard(probe_images(tiny.probe), 1, 2)
    run = lambda images: {LAYER: np.nan * images.float()}  # noqa: E731
    with pytest.raises(InputError, match=rf"unit 0, image {tiny.probe.names[6]}: the activation is NaN"):
        extract_activations(run, source, tmp_path / "maps.zarr", ExtractionSettings(7))
