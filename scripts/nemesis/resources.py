"""What a job asks a cluster for: more at each attempt, and more for larger layers."""

import json
import math
from pathlib import Path


def grow(amount: int, per_gb: int = 0):
    """A rule's resource that is `amount` at the first attempt, twice that at the second, and so on.

    `per_gb` is added for each GB of the activation maps of the job's layer in its input `maps`. Until those
    exist Snakemake shows <TBD>; it asks again before it submits the job.
    """
    if not per_gb:
        return lambda wildcards, attempt: amount * attempt
    return lambda wildcards, input, attempt: (
        math.ceil(amount + per_gb * count_gb(input.maps, wildcards.layer)) * attempt
    )


def if_streamed(amount: int):
    """A rule's resource that is `amount` where the job's layer in its input `maps` is streamed, and 0 elsewhere."""
    return lambda wildcards, input: amount if _is_streamed(find_layer(input.maps, wildcards.layer)) else 0


def count_gb(store, layer: str) -> float:
    """GB (1e9 bytes) of a layer's maps in an activations.zarr, uncompressed, given the zarr.json of the store.

    A streamed layer counts as if stored, a store without the layer as nothing.
    Raises FileNotFoundError where the store is not made yet.
    """
    return _count_bytes(find_layer(store, layer)) / 1e9


def find_layer(store, layer: str) -> Path:
    """The zarr.json of a layer in an activations.zarr; FileNotFoundError, of the store's, where that is not there."""
    store = Path(store)
    if not store.exists():  # by this name Snakemake knows the input that is still missing
        raise FileNotFoundError(2, "not made yet", str(store))
    return store.parent / layer / "zarr.json"


def _read_attributes(layer: Path) -> dict:
    return json.loads(layer.read_text()).get("attributes", {}) if layer.exists() else {}


def _is_streamed(layer: Path) -> bool:
    return "streamed" in _read_attributes(layer)


def _count_bytes(layer: Path) -> int:
    found = _read_attributes(layer)
    array = layer.parent / "maps" / "zarr.json"
    if not array.exists():
        return math.prod(found["shape"]) * int(found["dtype"].removeprefix("float")) // 8 if "streamed" in found else 0
    found = json.loads(array.read_text())
    return math.prod(found["shape"]) * int(found["data_type"].removeprefix("float")) // 8
