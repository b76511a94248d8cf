"""What jobs ask for: more at each attempt, more for larger layers."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from nemesis.resources import count_gb, grow, if_streamed
from nemesis.stores import add_array, write_store


@pytest.fixture
def stores(tmp_path):
    """Two stores of maps: (3, 5, 7, 7) float16 and (2, 5, 4, 4) float32, by their zarr.json."""
    for name, shape, dtype in (("a", (3, 5, 7, 7), np.float16), ("b", (2, 5, 4, 4), np.float32)):
        with write_store(tmp_path / name) as group:
            add_array(group, "maps", shape, dtype, "UPhw", "1")
    return [str(tmp_path / name / "zarr.json") for name in "ab"]


def test_more_at_each_attempt():
    assert [grow(4000)({}, attempt) for attempt in (1, 2, 3)] == [4000, 8000, 12000]


def test_bytes_of_the_maps(stores):
    assert count_gb(stores) == (3 * 5 * 49 * 2 + 2 * 5 * 16 * 4) / 1e9
    assert count_gb(stores[0]) == 3 * 5 * 49 * 2 / 1e9


def test_more_for_larger_layers(stores):
    per_gb = round(1e9)  # so that a byte counts 1
    job = SimpleNamespace(maps=stores[0])
    assert [grow(100, per_gb)({}, job, attempt) for attempt in (1, 2)] == [100 + 1470, 2 * (100 + 1470)]


def test_no_maps_count_nothing(tmp_path):
    with write_store(tmp_path / "tops.zarr"):
        pass
    assert count_gb(str(tmp_path / "tops.zarr" / "zarr.json")) == 0
    assert grow(100, 5)({}, SimpleNamespace(probe="x"), 1) == 100


def test_a_streamed_layer_counts_as_if_stored(tmp_path):
    with write_store(tmp_path / "maps.zarr", streamed=True, shape=(3, 5, 7, 7), dtype="float16"):
        pass
    assert count_gb(str(tmp_path / "maps.zarr" / "zarr.json")) == 3 * 5 * 49 * 2 / 1e9


def test_a_gpu_where_a_layer_is_streamed(tmp_path, stores):
    with write_store(tmp_path / "maps.zarr", streamed=True, shape=(3, 5, 7, 7), dtype="float16"):
        pass
    streamed = str(tmp_path / "maps.zarr" / "zarr.json")
    for maps, expected in ((stores[0], 0), (stores, 0), (streamed, 1), ([*stores, streamed], 1)):
        assert if_streamed(1)({}, SimpleNamespace(maps=maps)) == expected


def test_maps_that_are_not_made_yet(tmp_path):
    """Snakemake takes this error for 'not known yet' if it names the input."""
    missing = str(tmp_path / "maps.zarr" / "zarr.json")
    with pytest.raises(FileNotFoundError) as error:
        if_streamed(1)({}, SimpleNamespace(maps=missing))
    assert error.value.filename == missing
    with pytest.raises(FileNotFoundError) as error:
        grow(100, 5)({}, SimpleNamespace(maps=missing), 1)
    assert error.value.filename == missing


def test_rules_that_go_out_together_exist_and_take_no_gpu():
    root = Path(__file__).resolve().parents[1]
    text = "".join(path.read_text() for path in sorted((root / "rules").glob("*.smk")))
    blocks = dict(re.findall(r"^ *rule (\w+):\n(.*?)^ *script:", text, re.M | re.S))
    profile = yaml.safe_load((root / "profiles" / "slurm" / "config.yaml").read_text())
    grouped = [one.partition("=")[0] for one in profile["groups"]]
    assert [name for name in grouped if "gpu=" in blocks[name]] == []
