"""Exemplars through their store, joined, and under noise."""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from tiny_probe import ArrayMaps

from nemesis.corruption.mixed import NoisyMaps, mix_maps
from nemesis.dissection.stored import StoredMaps
from nemesis.errors import InputError
from nemesis.milan.exemplar_store import open_exemplars, write_exemplars
from nemesis.milan.exemplars import ExemplarSettings, change_exemplars, collect_exemplars, join_exemplars
from nemesis.milan.noisy import collect_noisy_exemplars
from nemesis.milan.peaks import find_peaks
from nemesis.perturb.noise import StoredNoise, add_noise, choose_images, draw_seed
from nemesis.perturb.storage import store_image
from nemesis.stores import save_array, write_store


def pictures_of(images):
    return lambda numbers: images[numbers]


@pytest.fixture
def parts():
    """Two probes that share an image, with a column each."""
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(4, 9, 3, 2)).astype(np.float16)
    images = rng.integers(0, 256, (9, 3, 6, 6), dtype=np.uint8)
    other = images.copy()
    other[1::2] = 255 - other[1::2]
    settings = ExemplarSettings(5, 0.9, 6)
    return [
        collect_exemplars(ArrayMaps(maps), pictures_of(images), [3, 1], settings, columns={"fraction": 0.5}),
        collect_exemplars(ArrayMaps(-maps), pictures_of(other), [0, 2, 1], settings, columns={"fraction": 1.0}),
    ]


def check_equal(found, expected):
    for name in ("unit", "ids", "activations", "levels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert list(found.columns) == list(expected.columns)
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name], values)
    np.testing.assert_array_equal(np.asarray(found.masks), np.asarray(expected.masks))
    np.testing.assert_array_equal(found.pictures[found.picture.ravel()], expected.pictures[expected.picture.ravel()])


def test_written_exemplars_are_read_back(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("nemesis.milan.exemplar_store.PICTURE_CHUNK", 3 * 3 * 36)
    monkeypatch.setattr("nemesis.milan.exemplar_store.MASK_CHUNK", 2 * 5 * 36)
    joined = join_exemplars(parts)
    assert len(joined) == 5 and joined.k == 5 and joined.size == 6
    write_exemplars(tmp_path / "exemplars.zarr", joined, "hash", quantile=0.9)
    stored = open_exemplars(tmp_path / "exemplars.zarr")
    check_equal(stored, joined)
    assert stored.ids.dtype == np.uint32 and stored.picture.dtype == np.int32 and stored.masks.dtype == bool
    assert stored.masks.shape == (5, 5, 1, 6, 6)
    shown = stored.pictures[:].reshape(len(stored.pictures), -1)
    assert len(np.unique(shown, axis=0)) == len(shown) < len(joined.pictures)  # each different picture once
    assert set(stored.picture.ravel()) == set(range(len(shown)))


def test_joined_rows_are_those_of_the_parts(parts):
    joined = join_exemplars(parts)
    assert joined.unit.tolist() == [3, 1, 0, 2, 1]
    assert joined.columns["fraction"].tolist() == [0.5, 0.5, 1, 1, 1]
    np.testing.assert_array_equal(joined.masks[4], parts[1].masks[2])
    np.testing.assert_array_equal(joined.pictures[joined.picture[3]], parts[1].pictures[parts[1].picture[1]])


def test_no_rows(tmp_path):
    maps = ArrayMaps(np.zeros((2, 4, 2, 2), np.float16))
    none = change_exemplars(maps, [], None, ExemplarSettings(3, 0.9, 6), columns={"count": np.zeros(0, int)})
    write_exemplars(tmp_path / "exemplars.zarr", none)
    stored = open_exemplars(tmp_path / "exemplars.zarr")
    assert len(stored) == 0 and stored.masks.shape == (0, 3, 1, 6, 6) and list(stored.columns) == ["count"]


def test_a_store_of_something_else(tmp_path, parts):
    write_exemplars(tmp_path / "a.zarr", parts[0])
    shutil.rmtree(tmp_path / "a.zarr" / "picture")
    with pytest.raises(InputError, match=r"a\.zarr: lacks array 'picture'.* run again"):
        open_exemplars(tmp_path / "a.zarr")
    with write_store(tmp_path / "b.zarr") as group:
        save_array(group, "unit", np.zeros(3), ("row",), "1")
    with pytest.raises(InputError, match=r"b\.zarr: no exemplars"):
        open_exemplars(tmp_path / "b.zarr")


# Under noise


@dataclass(frozen=True)
class TinyProbe:
    pictures: np.ndarray

    @property
    def count(self) -> int:
        return len(self.pictures)

    def take_images(self, numbers) -> np.ndarray:
        return self.pictures[numbers]


@pytest.mark.parametrize("storage", ["lossless", "float", "jpeg-75"])
def test_noisy_exemplars_show_the_corrupted_images(storage):
    rng = np.random.default_rng(2)
    probe = TinyProbe(rng.integers(0, 256, (10, 3, 8, 8), dtype=np.uint8))
    clean, corrupted = rng.normal(size=(2, 3, 10, 2, 2)).astype(np.float16)
    noise = StoredNoise("gaussian", 0.1, storage)
    seeds = {draw: draw_seed(7, draw) for draw in (0, 1)}
    store = StoredMaps(_Chunked(clean), None, np.arange(10))
    noisy = {}
    for draw, seed in seeds.items():
        stored = choose_images(10, 1.0, seed)
        noisy[draw, seed] = StoredMaps(_Chunked(corrupted[:, stored] + np.float16(draw)), None, stored)
    settings = ExemplarSettings(4, 0.9, 8)
    found = collect_noisy_exemplars(NoisyMaps(store, noisy, [1.0, 0.3]), probe, noise, [2, 0], settings)
    assert list(zip(found.columns["fraction"], found.columns["seed"], found.unit, strict=True)) == [
        (fraction, draw, unit) for fraction in (0.3, 1.0) for draw in (0, 1) for unit in (2, 0)
    ]
    for row in range(len(found)):
        seed, fraction = seeds[int(found.columns["seed"][row])], float(found.columns["fraction"][row])
        chosen = choose_images(10, fraction, seed)
        mixed = mix_maps(store, noisy[int(found.columns["seed"][row]), seed], chosen).read(slice(0, 10))
        expected = find_peaks(mixed[[found.unit[row]]], 4, 0.9)
        assert found.ids[row].tolist() == expected.ids[0].tolist()
        assert found.levels[row] == expected.levels[0]
        for place, number in enumerate(found.ids[row].astype(int)):
            shown = probe.pictures[number]
            if number in chosen:
                shown = store_image(add_noise(shown, "gaussian", 0.1, seed, number), storage)
                shown = shown if storage != "float" else np.rint(shown * 255).astype(np.uint8)
            np.testing.assert_array_equal(found.pictures[found.picture[row, place]], shown)


class _Chunked(np.ndarray):
    """An array with zarr's `chunks`."""

    def __new__(cls, values):
        return np.asarray(values).view(cls)

    chunks = (2, 3, 2, 2)
