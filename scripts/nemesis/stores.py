"""zarr stores that are complete or absent, and that say so when a chunk is missing or damaged.

zarr 3 reads a missing chunk as zeros and, with its default codec, does not notice a flipped
bit. Here every chunk is written (empty ones too), compressed with zstd and a checksum, and
`open_store` checks that all chunk files exist before anything is read.
"""

import contextlib
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from nemesis import __version__
from nemesis.errors import InputError
from nemesis.files import atomic_directory, atomic_file, sha256_file

LEVEL = -1  # of zstd: maps and photographs hardly shrink at any level, and this one is two to four times as fast as 1
CHUNK_BYTES = 2**20
SHARD_BYTES = 2**25
MAX_BLOCK = 128
TAKEN_CHUNKS = 32  # consecutive chunks that `take` reads at once


@dataclass(frozen=True)
class Origin:
    """What a store was made from: a hash of the settings, and the input files."""

    config_hash: str = ""
    inputs: Sequence = ()


UNKNOWN = Origin()


def store_folder(path) -> Path:
    """The folder of a store, which may be named by the zarr.json in it."""
    path = Path(path)
    return path.parent if path.name == "zarr.json" else path


@contextlib.contextmanager
def write_store(path, config_hash: str = "", inputs=(), **attrs):
    """Yield a new zarr group that becomes `path`, a folder or the zarr.json in it, when the block ends well.

    `inputs` are files whose names and sha256 are recorded in `created_from`.
    """
    created_from = {str(name): sha256_file(name) for name in inputs}
    with write_group(path, config_hash=config_hash, created_from=created_from, **attrs) as group:
        yield group


@contextlib.contextmanager
def write_group(path, **attrs):
    """Yield a new zarr group with these attributes that becomes `path` when the block ends well.

    `path` is the store's folder, or the zarr.json in it.
    """
    with atomic_directory(store_folder(path)) as partial:
        group = zarr.open_group(partial, mode="w", zarr_format=3)
        group.attrs.update(nemesis_version=__version__, **attrs)
        yield group
        group.attrs["arrays"] = sorted(group.array_keys())


def write_root(path, **attrs):
    """Make the folder `path`, which holds groups, a zarr group with these attributes; nothing in it is touched."""
    held: dict = {}
    zarr.create_group(held, zarr_format=3, attributes={"nemesis_version": __version__, **attrs})
    with atomic_file(Path(path) / "zarr.json") as partial:
        partial.write_bytes(held["zarr.json"].to_bytes())


@dataclass(frozen=True)
class Layout:
    """Names of an array's dimensions, the unit of its values, and in which pieces it is stored; whole without any."""

    dims: Sequence[str]
    units: str
    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None


def add_array(group, name: str, shape, dtype, layout: Layout):
    """Create an array in `group`, empty."""
    shape = tuple(int(n) for n in shape)
    chunks = tuple(max(1, int(n)) for n in (layout.chunks or shape))
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=layout.shards,
        compressors=ZstdCodec(level=LEVEL, checksum=True),
        dimension_names=tuple(layout.dims),
        attributes={"dimensions": list(layout.dims), "units": layout.units},
        config={"write_empty_chunks": True},
    )


def save_array(group, name: str, values, dims, units: str, chunks=None):
    """Store a whole array that fits in memory."""
    values = np.asarray(values)
    add_array(group, name, values.shape, values.dtype, Layout(dims, units, chunks))[...] = values


def block_size(bytes_per_image: int, count: int) -> int:
    """Images in one shard: at most MAX_BLOCK, and at most SHARD_BYTES unless one image is larger."""
    return max(1, min(MAX_BLOCK, count, SHARD_BYTES // max(1, bytes_per_image)))


def open_store(path, whole: bool = True, layer: str = ""):
    """Open a store, named by its folder or the zarr.json in it, or the group of one layer inside of it, for reading.

    Raises InputError when it, one of its arrays or (if `whole`) a chunk of one is missing.
    """
    path = store_folder(path)
    group, arrays = _open_group(path)
    if layer:
        if layer not in list_groups(path):
            raise InputError(_describe_layers(path, layer))
        group, arrays = _open_group(path, layer)
    for name in group.attrs.get("arrays", ()):
        if name not in arrays:
            raise InputError(f"{path}: lacks array '{_join(layer, name)}'; {_remedy(path)}")
    for name, array in arrays.items() if whole else ():
        for key in _chunk_keys(array):
            if not (path / layer / name / key).is_file():
                raise InputError(f"{path}: array '{_join(layer, name)}' lacks chunk {key}; {_remedy(path)}")
    return group


def _open_group(path: Path, name: str = ""):
    """A store, or a group inside of it, and its arrays by name."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Object at .snakemake_timestamp")
            group = zarr.open_group(path, mode="r", zarr_format=3)
            group = group[name] if name else group
            return group, dict(group.arrays())
    except Exception as error:
        raise InputError(f"{path}: not a readable zarr store ({error}); {_remedy(path)}") from error


def list_groups(path) -> list[str]:
    """Names of the groups in a store's folder, sorted; the folder need not be a store yet."""
    return sorted(file.parent.name for file in Path(path).glob("[!.]*/zarr.json"))


def _describe_layers(path: Path, layer: str) -> str:
    names = ", ".join(list_groups(path)) or "none"
    return f"{path}: has no layer {layer}, only {names}; delete {path / 'zarr.json'} and run again"


def _join(layer: str, name: str) -> str:
    return f"{layer}/{name}" if layer else name


def read(array, *selection) -> np.ndarray:
    """Read a selection of an array; InputError names the store when a chunk is damaged."""
    try:
        return np.asarray(array[selection if selection else ...])
    except (RuntimeError, ValueError, OSError, FileNotFoundError) as error:
        store = Path(str(array.store_path.store.root))
        reason = " ".join(str(error).split())
        raise InputError(f"{store}: array '{array.path}' is damaged ({reason}); {_remedy(store)}") from error


def take(array, numbers) -> np.ndarray:
    """Entries of an array along its first axis, by number in any order; each chunk is read once."""
    numbers = np.asarray(numbers, np.int64)
    found, chunk = np.empty((len(numbers), *array.shape[1:]), array.dtype), array.chunks[0]
    indices = np.unique(numbers // chunk)
    for run in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1):
        for part in np.array_split(run, -(-len(run) // TAKEN_CHUNKS)) if len(run) else ():
            first, last = part[0] * chunk, (part[-1] + 1) * chunk
            rows = np.flatnonzero((numbers >= first) & (numbers < last))
            found[rows] = read(array, slice(int(first), int(last)))[numbers[rows] - first]
    return found


def blocks(count: int, size: int):
    """Yield (start, stop) of consecutive blocks of at most `size`."""
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _chunk_keys(array):
    grid = array.shards or array.chunks
    counts = [math.ceil(n / c) for n, c in zip(array.shape, grid, strict=True)]
    for index in itertools.product(*map(range, counts)):
        yield "/".join(["c", *map(str, index)])


def _remedy(path: Path) -> str:
    return f"delete the folder {path} and run again"
