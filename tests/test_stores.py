"""A store that is damaged says so, and says which one."""

import math
import shutil

import numpy as np
import pytest

from nemesis.errors import InputError
from nemesis.stores import (
    MAX_BLOCK,
    SHARD_BYTES,
    Layout,
    add_array,
    block_size,
    blocks,
    open_store,
    read,
    save_array,
    write_store,
)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "a.zarr"
    rng = np.random.default_rng(0)
    with write_store(path, "hash", kind="test") as group:
        save_array(group, "values", rng.random((6, 4)), ("unit", "image"), "1", chunks=(2, 4))
        layout = Layout(("u", "n", "y", "x"), "1", (2, 3, 2, 2), (4, 3, 2, 2))
        maps = add_array(group, "maps", (4, 6, 2, 2), "float16", layout)
        maps[...] = rng.random((4, 6, 2, 2))
    return path


def chunk_files(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and "c" in file.relative_to(path).parts)


def read_all(path):
    return {name: read(array) for name, array in open_store(path).arrays()}


def test_what_was_written_is_read(store):
    rng = np.random.default_rng(0)
    found = read_all(store)
    np.testing.assert_array_equal(found["values"], rng.random((6, 4)))
    np.testing.assert_array_equal(found["maps"], rng.random((4, 6, 2, 2)).astype(np.float16))
    group = open_store(store)
    assert (group.attrs["config_hash"], group.attrs["kind"]) == ("hash", "test")
    assert group["values"].attrs["dimensions"] == ["unit", "image"]
    np.testing.assert_array_equal(read(group["values"], slice(1, 3), 2), found["values"][1:3, 2])


def test_every_missing_chunk_is_noticed(store):
    files = chunk_files(store)
    assert len(files) == 3 + 2
    for file in files:
        body = file.read_bytes()
        file.unlink()
        with pytest.raises(
            InputError, match=r"a\.zarr: array '(values|maps)' lacks chunk c/.*delete the folder .*a\.zarr"
        ):
            open_store(store)
        file.write_bytes(body)
    open_store(store)


def test_every_flipped_bit_is_noticed(store):
    before = read_all(store)
    noticed = 0
    for file in chunk_files(store):
        body = file.read_bytes()
        for place in range(0, len(body), 7):
            file.write_bytes(body[:place] + bytes([body[place] ^ 4]) + body[place + 1 :])
            try:
                after = read_all(store)
            except InputError as error:
                assert str(store) in str(error)
                assert "damaged" in str(error)
                noticed += 1
            else:  # a bit that carries no value, such as a reserved one
                for name, values in before.items():
                    np.testing.assert_array_equal(after[name], values)
        file.write_bytes(body)
    assert noticed > 50


@pytest.mark.parametrize("damage", ["absent", "empty folder", "no metadata", "broken metadata", "truncated chunk"])
def test_a_damaged_store_is_named(store, damage):
    if damage == "absent":
        shutil.rmtree(store)
    elif damage == "empty folder":
        shutil.rmtree(store)
        store.mkdir()
    elif damage == "no metadata":
        (store / "zarr.json").unlink()
    elif damage == "broken metadata":
        (store / "zarr.json").write_text("{")
    else:
        file = chunk_files(store)[0]
        file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(InputError) as caught:
        read_all(store)
    assert str(store) in str(caught.value)
    assert "delete the folder" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Object at maps")
@pytest.mark.parametrize("part", ["maps", "maps/zarr.json"])
def test_a_missing_array_is_noticed(store, part):
    path = store / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=r"a\.zarr: lacks array 'maps'; delete the folder"):
        open_store(store)


def test_empty_chunks_are_written(tmp_path):
    with write_store(tmp_path / "zeros.zarr") as group:
        save_array(group, "zeros", np.zeros((4, 4)), ("a", "b"), "1", chunks=(2, 2))
        sharded = add_array(group, "sharded", (4, 4), "uint8", Layout(("a", "b"), "1", (2, 2), (4, 4)))
        sharded[...] = 0
    assert len(chunk_files(tmp_path / "zeros.zarr")) == 4 + 1
    assert not read_all(tmp_path / "zeros.zarr")["zeros"].any()


def test_a_chunk_that_was_never_written_is_noticed(tmp_path):
    with write_store(tmp_path / "half.zarr") as group:
        array = add_array(group, "maps", (4, 4), "uint8", Layout(("a", "b"), "1", (2, 4)))
        array[:2] = 1
    with pytest.raises(InputError, match="lacks chunk c/1/0"):
        open_store(tmp_path / "half.zarr")


def test_a_failure_leaves_the_earlier_store(store, tmp_path):
    before = read_all(store)
    with pytest.raises(ZeroDivisionError), write_store(store) as group:
        save_array(group, "values", np.ones(3), ("unit",), "1")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    np.testing.assert_array_equal(read_all(store)["values"], before["values"])


def test_inputs_are_recorded(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    with write_store(tmp_path / "s.zarr", inputs=[tmp_path / "abc"]):
        pass
    assert open_store(tmp_path / "s.zarr").attrs["created_from"] == {
        str(tmp_path / "abc"): "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }


def test_blocks_cover_everything_once():
    assert list(blocks(7, 3)) == [(0, 3), (3, 6), (6, 7)]
    assert list(blocks(6, 3)) == [(0, 3), (3, 6)]
    assert list(blocks(0, 3)) == []


def test_block_size_is_bounded():
    assert block_size(1, 10) == 10
    assert block_size(1, 10**6) == MAX_BLOCK
    assert block_size(SHARD_BYTES // 3, 100) == 3
    assert block_size(10 * SHARD_BYTES, 100) == 1
    assert block_size(100, 0) == 1
    for size in (1, 1000, 10**6, 10**8):
        assert block_size(size, 500) * size <= max(SHARD_BYTES, size)
        assert math.ceil(500 / block_size(size, 500)) >= 1
