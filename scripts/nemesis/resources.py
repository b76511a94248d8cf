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


def count_gb(stores) -> float:
    """GB (1e9 bytes) of the maps in activations.zarr stores, uncompressed, given the zarr.json of each.

    A streamed layer counts as if stored, another store without an array of maps as nothing.
    Raises FileNotFoundError where a store is not made yet.
    """
    paths = [stores] if isinstance(stores, str) else stores
    return sum(_count_bytes(Path(path)) for path in paths) / 1e9


def _count_bytes(store: Path) -> int:
    with open(store):  # by this name Snakemake knows the input that is still missing
        pass
    array = store.parent / "maps" / "zarr.json"
    if not array.exists():
        found = json.loads(store.read_text()).get("attributes", {})
        return math.prod(found["shape"]) * int(found["dtype"].removeprefix("float")) // 8 if "streamed" in found else 0
    found = json.loads(array.read_text())
    return math.prod(found["shape"]) * int(found["data_type"].removeprefix("float")) // 8
