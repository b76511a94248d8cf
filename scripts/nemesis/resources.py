"""What a job asks a cluster for: more at each attempt, and more for larger layers."""

import json
import math
from pathlib import Path


def grow(amount: int, per_gb: int = 0):
    """A rule's resource that is `amount` at the first attempt, twice that at the second, and so on.

    `per_gb` is added for each GB of the activation maps in the job's input `maps`. Until those
    exist Snakemake shows <TBD>; it asks again before it submits the job.
    """
    if not per_gb:
        return lambda wildcards, attempt: amount * attempt
    return lambda wildcards, input, attempt: math.ceil(amount + per_gb * count_gb(getattr(input, "maps", ()))) * attempt


def if_streamed(amount: int):
    """A rule's resource that is `amount` where a layer of its input `maps` is streamed, and 0 elsewhere."""
    return lambda wildcards, input: amount if any(_is_streamed(Path(path)) for path in _list(input.maps)) else 0


def count_gb(stores) -> float:
    """GB (1e9 bytes) of the maps in activations.zarr stores, uncompressed, given the zarr.json of each.

    A streamed layer counts as if stored, another store without an array of maps as nothing.
    Raises FileNotFoundError where a store is not made yet.
    """
    return sum(_count_bytes(Path(path)) for path in _list(stores)) / 1e9


def _list(paths) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths)


def _read_attributes(store: Path) -> dict:
    with open(store) as stream:  # by this name Snakemake knows the input that is still missing
        return json.load(stream).get("attributes", {})


def _is_streamed(store: Path) -> bool:
    return "streamed" in _read_attributes(store)


def _count_bytes(store: Path) -> int:
    found = _read_attributes(store)
    array = store.parent / "maps" / "zarr.json"
    if not array.exists():
        return math.prod(found["shape"]) * int(found["dtype"].removeprefix("float")) // 8 if "streamed" in found else 0
    found = json.loads(array.read_text())
    return math.prod(found["shape"]) * int(found["data_type"].removeprefix("float")) // 8
