"""What jobs ask for: more at each attempt, more for larger layers."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from nemesis.resources import count_gb, grow, if_streamed
from nemesis.stores import Layout, add_array, write_store


@pytest.fixture
def store(tmp_path):
    """A store of layers with maps (3, 5, 7, 7) float16 and (2, 5, 4, 4) float32, and a streamed one; its zarr.json."""
    with write_store(tmp_path / "maps.zarr"):
        pass
    for name, shape, dtype in (("a", (3, 5, 7, 7), np.float16), ("b", (2, 5, 4, 4), np.float32)):
        with write_store(tmp_path / "maps.zarr" / name) as group:
            add_array(group, "maps", shape, dtype, Layout("UPhw", "1"))
    with write_store(tmp_path / "maps.zarr" / "streamed", streamed=True, shape=(3, 5, 7, 7), dtype="float16"):
        pass
    return str(tmp_path / "maps.zarr" / "zarr.json")


def of_layer(layer):
    return SimpleNamespace(layer=layer)


def test_more_at_each_attempt():
    assert [grow(4000)({}, attempt) for attempt in (1, 2, 3)] == [4000, 8000, 12000]


def test_bytes_of_the_maps(store):
    assert count_gb(store, "a") == 3 * 5 * 49 * 2 / 1e9
    assert count_gb(store, "b") == 2 * 5 * 16 * 4 / 1e9


def test_more_for_larger_layers(store):
    per_gb = round(1e9)  # so that a byte counts 1
    job = SimpleNamespace(maps=store)
    found = [grow(100, per_gb)(of_layer("a"), job, attempt) for attempt in (1, 2)]
    assert found == [100 + 1470, 2 * (100 + 1470)]


def test_a_layer_that_is_not_there_counts_nothing(store):
    """The job says what is wrong."""
    assert count_gb(store, "c") == 0
    assert if_streamed(1)(of_layer("c"), SimpleNamespace(maps=store)) == 0


def test_a_streamed_layer_counts_as_if_stored(store):
    assert count_gb(store, "streamed") == 3 * 5 * 49 * 2 / 1e9


def test_a_gpu_where_a_layer_is_streamed(store):
    for layer, expected in (("a", 0), ("b", 0), ("streamed", 1)):
        assert if_streamed(1)(of_layer(layer), SimpleNamespace(maps=store)) == expected


def test_maps_that_are_not_made_yet(tmp_path):
    """Snakemake takes this error for 'not known yet' if it names the input."""
    missing = str(tmp_path / "maps.zarr" / "zarr.json")
    with pytest.raises(FileNotFoundError) as error:
        if_streamed(1)(of_layer("a"), SimpleNamespace(maps=missing))
    assert error.value.filename == missing
    with pytest.raises(FileNotFoundError) as error:
        grow(100, 5)(of_layer("a"), SimpleNamespace(maps=missing), 1)
    assert error.value.filename == missing


def test_rules_that_go_out_together_exist_and_take_no_gpu():
    root = Path(__file__).resolve().parents[1]
    text = "".join(path.read_text() for path in sorted((root / "rules").glob("*.smk")))
    blocks = dict(re.findall(r"^ *rule (\w+):\n(.*?)^ *script:", text, re.M | re.S))
    profile = yaml.safe_load((root / "profiles" / "slurm" / "config.yaml").read_text())
    grouped = [one.partition("=")[0] for one in profile["groups"]]
    assert [name for name in grouped if "gpu=" in blocks[name]] == []
