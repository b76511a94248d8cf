"""Join the shards of an attack into one poison.zarr."""

from nemesis.job import job
from nemesis.perturb.poison import join_poison

with job(snakemake.log[0]):
    join_poison(snakemake.input.shards, snakemake.output.poison)
