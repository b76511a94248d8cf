"""Activations are stored as the network gave them, whatever the batch, or not at all."""

import dataclasses
import logging
import threading
import time
from unittest import mock

import numpy as np
import pytest
import torch
from designed_layer import store_maps, tiny_network

from nemesis import stores
from nemesis.dissection import extract, sinks
from nemesis.dissection.extract import (
    ExtractionSettings,
    ImageSource,
    extract_activations,
    extract_layers,
    probe_images,
)
from nemesis.dissection.stored import StoredMaps, open_maps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.errors import InputError
from nemesis.models.layouts import Layout
from nemesis.models.network import LayerReader, Network

COUNT = 20


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 3, 8, 6), dtype=np.uint8)


@pytest.fixture
def source(images):
    return make_source(images)


def make_source(images, **record):
    numbers = 3 * np.arange(len(images))
    names = [f"t/{number}.png" for number in numbers]
    return ImageSource(numbers, names, lambda start, stop: images[start:stop], record)


def run_elementwise(images):
    """Two layers of different shapes, each value from one pixel."""
    pixels = images.float()
    return {"wide": torch.cat([pixels / 3, -pixels], dim=1), "small": pixels[:, :2, :2, :3] / 255 - 0.5}


def extract_all(source, folder, run=run_elementwise, dtype="float32", batch=7, **options):
    extract_activations(run, source, folder / "maps.zarr", ExtractionSettings(batch, dtype=dtype, **options))
    return {layer: open_maps(folder / "maps.zarr", layer) for layer in ("wide", "small")}


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def everything(maps):
    return maps.read(slice(0, maps.count))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_stored_maps_are_the_networks(images, source, tmp_path, dtype, batch):
    stored = extract_all(source, tmp_path, dtype=dtype, batch=batch)
    expected = run_elementwise(torch.from_numpy(images))
    for layer, maps in stored.items():
        values = expected[layer].transpose(0, 1).numpy().astype(dtype)
        assert everything(maps).dtype == dtype
        np.testing.assert_array_equal(everything(maps), values)
        np.testing.assert_array_equal(np.asarray(maps.max[...]), values.max(axis=(2, 3)))
        assert maps.image.tolist() == source.numbers.tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps.zarr"]
    assert sorted(path.name for path in (tmp_path / "maps.zarr").iterdir()) == ["small", "wide", "zarr.json"]


@pytest.mark.parametrize("shard", [600, 4000, 50_000])
def test_layers_with_blocks_of_their_own(images, source, tmp_path, monkeypatch, shard):
    monkeypatch.setattr(stores, "SHARD_BYTES", shard)
    monkeypatch.setattr(sinks, "CHUNK_BYTES", 300)
    stored = extract_all(source, tmp_path)
    expected = run_elementwise(torch.from_numpy(images))
    assert stored["wide"].block == max(1, min(COUNT, shard // (6 * 48 * 4)))
    assert stored["small"].block == min(COUNT, shard // (2 * 6 * 4))
    for layer, maps in stored.items():
        np.testing.assert_array_equal(everything(maps), expected[layer].transpose(0, 1).numpy())
        np.testing.assert_array_equal(np.asarray(maps.max[...]), everything(maps).max(axis=(2, 3)))
        np.testing.assert_array_equal(maps.read(slice(3, 11), slice(1, 2)), everything(maps)[1:2, 3:11])


def test_a_networks_batch_does_not_show(source, tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    extract_all(source, tmp_path / "a", batch=7)
    extract_all(source, tmp_path / "b", batch=64)
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file()}
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("value", "dtype", "problem"),
    [
        (float("nan"), "float32", "is NaN or infinite"),
        (float("nan"), "float16", "is NaN or infinite"),
        (float("inf"), "float32", "is NaN or infinite"),
        (-float("inf"), "float16", "is NaN or infinite"),
        (70000.0, "float16", "reaches 70000, above float16's 65504; set dissection.dtype: float32"),
        (-1e9, "float16", "reaches 1e+09, above float16's 65504"),
    ],
)
@pytest.mark.parametrize("row", [0, 6, 13, COUNT - 1])
def test_a_bad_activation_is_named(images, tmp_path, monkeypatch, value, dtype, problem, row):
    images[:, 0, 0, 0] = np.arange(COUNT)
    monkeypatch.setattr(stores, "SHARD_BYTES", 5 * 2 * 6 * np.dtype(dtype).itemsize)  # blocks of 5 images

    def run(batch):
        outputs = run_elementwise(batch)
        outputs["small"][batch[:, 0, 0, 0] == row, 1, 1, 2] = value
        return outputs

    with pytest.raises(InputError) as caught:
        extract_all(make_source(images), tmp_path, run, dtype)
    assert str(caught.value).startswith(f"layer small, unit 1, image t/{3 * row}.png: the activation {problem}")
    assert names(tmp_path) == []


def test_large_values_fit_in_float32(source, tmp_path):
    stored = extract_all(source, tmp_path, lambda batch: {k: v * 1e6 for k, v in run_elementwise(batch).items()})
    assert everything(stored["wide"]).min() < -1e8


def test_a_failure_leaves_nothing_though_writing_is_under_way(source, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 6 * 48 * 4)  # a block an image: much to write
    write, started = extract._LayerWriter._write, threading.Event()

    def write_slowly(*arguments):
        started.set()
        time.sleep(0.2)
        write(*arguments)

    def run(batch):
        if batch.shape[0] < 7:  # the last batch
            assert started.wait(10)
            raise ZeroDivisionError
        return run_elementwise(batch)

    monkeypatch.setattr(extract._LayerWriter, "_write", write_slowly)
    with pytest.raises(ZeroDivisionError):
        extract_all(source, tmp_path, run)
    time.sleep(0.5)
    assert names(tmp_path) == []


def test_disk_full_in_the_writing_thread_is_one_line(source, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(extract._LayerWriter, "_write", fail)
    with pytest.raises(InputError, match=r"\.zarr/\w+: the disk is full"):
        extract_all(source, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_halves_the_batch(images, source, tmp_path, caplog, error):
    sizes = []

    def run(batch):
        sizes.append(len(batch))
        if len(batch) > 5:
            raise error
        return run_elementwise(batch)

    with caplog.at_level(logging.WARNING):
        stored = extract_all(source, tmp_path, run, batch=9)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["out of memory: the batch is halved from 9 to 4 images"]
    assert sizes == [9, 4, 4, 1, 4, 4, 1, 2]
    expected = run_elementwise(torch.from_numpy(images))
    for layer, maps in stored.items():
        np.testing.assert_array_equal(everything(maps), expected[layer].transpose(0, 1).numpy())


def test_halved_batches_are_not_filled_up_again(images, source, tmp_path):
    """The workflow's reader pads the last batch; with a batch that does not fit it would never get smaller."""
    sizes = []

    class Tight(torch.nn.Module):
        def forward(self, batch):
            sizes.append(len(batch))
            if len(batch) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return batch

    network = Network("tight", torch.nn.Sequential(Tight()), (0, 0, 0), (1, 1, 1), layouts={"0": Layout()})
    with LayerReader(network, ["0"], "cpu", pad_to=9) as reader:
        extract_activations(reader.read, source, tmp_path / "maps.zarr", ExtractionSettings(9))
    assert sizes[0] == 9 and set(sizes[1:]) == {4}
    assert everything(open_maps(tmp_path / "maps.zarr", "0")).shape[:2] == (3, len(images))


def test_too_little_memory_for_one_image_is_one_line(source, tmp_path):
    def run(batch):
        if len(batch) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_elementwise(batch)

    def run_never(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    extract_all(source, tmp_path, run, batch=10)  # no batch of one image
    with pytest.raises(InputError, match="too little memory for one image; use device: cpu"):
        extract_all(source, tmp_path / "new", run_never, batch=10)
    assert names(tmp_path / "new") == [] if (tmp_path / "new").exists() else True


def test_other_errors_of_the_network_pass_unchanged(source, tmp_path):
    def run(batch):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        extract_all(source, tmp_path, run)
    assert names(tmp_path) == []


def test_an_error_while_loading_is_passed_on(tmp_path):
    def load(start, stop):
        if start >= 14:
            raise InputError("p.zarr: array 'images' is damaged")
        return np.zeros((stop - start, 3, 8, 6), np.uint8)

    with pytest.raises(InputError, match="is damaged"):
        extract_all(ImageSource(np.arange(COUNT), list("a" * COUNT), load), tmp_path)
    assert names(tmp_path) == []


def test_what_loading_records_is_stored(images, tmp_path):
    source = make_source(images, linf=np.zeros(COUNT), mse=np.zeros(COUNT))

    def load(start, stop):
        source.record["linf"][start:stop] = np.arange(start, stop)
        return images[start:stop]

    filled = ImageSource(source.numbers, source.names, load, source.record)
    for maps in extract_all(filled, tmp_path).values():
        assert maps.record["linf"].tolist() == list(range(COUNT))
        assert maps.record["mse"].tolist() == [0] * COUNT
        assert set(maps.record) == {"linf", "mse"}


def test_float_images_reach_the_network_unchanged(tmp_path):
    images = np.random.default_rng(1).random((5, 3, 8, 6), dtype=np.float32)
    seen = []

    def run(batch):
        seen.append(batch.clone())
        return run_elementwise(batch)

    extract_all(make_source(images), tmp_path, run, batch=2)
    np.testing.assert_array_equal(torch.cat(seen).numpy(), images)


@pytest.mark.parametrize("images", [slice(0, 12), slice(3, 9), slice(11, 12)])
def test_units_are_read_by_number(tiny, tmp_path, images):
    maps = store_maps(tiny.probe, tmp_path / "maps.zarr")
    units = [4, 0, 3, 0]
    expected = maps.read(slice(0, 12))[units, images]
    for chunk in (1, 2, 5):
        with mock.patch.object(StoredMaps, "unit_chunk", chunk):
            assert (maps.read_units(images, units) == expected).all()


def run_odd(images):
    """Maps with both zeros, ties, negative and very small values."""
    pixels = images.float()
    zeros = torch.where(pixels > 128, 0.0, -0.0)
    return {"wide": torch.cat([zeros, pixels.round(decimals=-1) - 90], 1), "small": (pixels - 128)[:, :2, :2] * 1e-7}


@pytest.mark.parametrize("run", [run_elementwise, run_odd])
@pytest.mark.parametrize("rule", ["exact", "published"])
@pytest.mark.parametrize("shard", [3000, 2**25])
def test_thresholds_from_counts_are_those_from_maps(source, tmp_path, monkeypatch, run, rule, shard):
    monkeypatch.setattr(stores, "SHARD_BYTES", shard)
    for maps in extract_all(source, tmp_path, run, "float16").values():
        assert np.asarray(maps.counts[...]).sum(axis=1).tolist() == [COUNT * maps.shape[2] * maps.shape[3]] * maps.units
        for quantile in (0.005, 0.2, 0.9):
            expected = layer_thresholds(dataclasses.replace(maps, counts=None), quantile, rule)
            with mock.patch.object(StoredMaps, "read", side_effect=AssertionError):
                found = layer_thresholds(maps, quantile, rule)
            for name, values in vars(expected).items():
                np.testing.assert_array_equal(getattr(found, name), values)


def test_what_is_not_counted(source, tmp_path, monkeypatch, caplog):
    for options in ({"dtype": "float32"}, {"dtype": "float16", "counted": False}):
        assert {maps.counts for maps in extract_all(source, tmp_path, **options).values()} == {None}
    monkeypatch.setattr(extract, "COUNT_BYTES", 6 * 65536 * 2)  # those of 6 units with 960 values each
    with caplog.at_level(logging.INFO):
        found = extract_all(source, tmp_path, dtype="float16")
    assert found["wide"].counts.shape == (6, 65536) and found["small"].counts is None
    assert "layer small: its values are not counted" in caplog.text


def settings_of(tmp_path, **options):
    """Settings with a record."""
    (tmp_path / "input").write_text("what maps are made from")
    return ExtractionSettings(7, **{"config_hash": "hash", "inputs": (tmp_path / "input",), "code": "code"} | options)


@pytest.fixture
def extract_some(tiny, tmp_path):
    """extract_some("0", "2") extracts layers of the tiny network, and says which of its layers were made anew."""
    store = tmp_path / "maps.zarr"

    def made_at():
        found = {path.parent.name: path.stat() for path in store.glob("*/zarr.json")}
        return {name: (about.st_ino, about.st_mtime_ns) for name, about in found.items()}  # a number may come again

    def run(*layers, source=None, **options):
        before = made_at()
        settings = settings_of(tmp_path, **options)
        extract_layers(tiny_network(), list(layers), source or probe_images(tiny.probe), store, settings)
        return sorted(name for name, number in made_at().items() if before.get(name) != number)

    return run


def layers_of(store):
    return sorted(path.name for path in store.iterdir() if path.is_dir())


def test_only_layers_that_a_store_lacks_are_made(extract_some, tmp_path):
    store = tmp_path / "maps.zarr"
    assert extract_some("0") == ["0"]
    root = (store / "zarr.json").read_bytes()
    assert extract_some("0", "2") == ["2"]
    assert extract_some("1") == ["1"]
    assert layers_of(store) == ["0", "1", "2"]
    assert (store / "zarr.json").read_bytes() == root  # so that what was made of layer 0 is not outdated
    assert [open_maps(store, name).units for name in "012"] == [4, 4, 5]


def test_all_layers_are_made_again_when_none_is_missing(extract_some, tmp_path):
    extract_some("0", "1", "2")
    assert extract_some("2", "0") == ["0", "2"]
    assert layers_of(tmp_path / "maps.zarr") == ["0", "1", "2"]


@pytest.mark.parametrize("change", [{"code": "new"}, {"config_hash": "new"}, {"inputs": ()}, {"config_hash": ""}])
def test_layers_made_from_something_else_go(extract_some, tmp_path, caplog, change):
    store = tmp_path / "maps.zarr"
    extract_some("0", "1")
    root = (store / "zarr.json").read_bytes()
    with caplog.at_level(logging.INFO):
        assert extract_some("0", "2", **change) == ["0", "2"]
    assert layers_of(store) == ["0", "2"]
    assert "maps.zarr: the maps of layer 1 do not fit any more and are removed" in caplog.text
    assert (store / "zarr.json").read_bytes() != root


def test_a_layer_that_lacks_a_chunk_is_made_again(extract_some, tmp_path):
    extract_some("0", "1", "2")
    (tmp_path / "maps.zarr/1/max/c/0/0").unlink()
    with pytest.raises(InputError, match=r"maps\.zarr: array '1/max' lacks chunk c/0/0; delete .*maps\.zarr "):
        open_maps(tmp_path / "maps.zarr", "1")
    assert extract_some("0", "1", "2") == ["1"]


def test_a_job_that_was_killed_leaves_no_store_that_looks_complete(extract_some, tiny, tmp_path):
    store = tmp_path / "maps.zarr"
    extract_some("0", "1")
    partial = store / ".2.partial-999999999"
    partial.mkdir()  # as kill -9 leaves it
    (partial / "zarr.json").write_bytes((store / "0/zarr.json").read_bytes())

    def load(start, stop):
        assert not (store / "zarr.json").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_some("2", source=dataclasses.replace(probe_images(tiny.probe), load=load))
    assert sorted(path.name for path in store.iterdir()) == ["0", "1"]
    with pytest.raises(InputError, match=r"maps\.zarr: not a readable zarr store"):
        open_maps(store, "0")
    assert extract_some("0", "1", "2") == ["2"]
    assert open_maps(store, "0").count == 12


def test_a_layer_that_a_store_lacks_is_one_line(extract_some, tmp_path):
    extract_some("0", "1")
    with pytest.raises(InputError) as error:
        open_maps(tmp_path / "maps.zarr", "conv9")
    store = tmp_path / "maps.zarr"
    assert str(error.value) == f"{store}: has no layer conv9, only 0, 1; delete {store}/zarr.json and run again"
