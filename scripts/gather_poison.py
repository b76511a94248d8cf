"""Join the shards of an attack into one poison.zarr."""

from pathlib import Path

from nemesis.corruption.poisoned import join_poison
from nemesis.job import job

with job(snakemake.log[0]):
    shards = [Path(path).parent for path in snakemake.input.shards]
    join_poison(shards, Path(snakemake.output.poison).parent)
