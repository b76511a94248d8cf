"""Join the shards of an extraction, clean or under noise, into one activations.zarr."""

from nemesis.dissection.gather import gather_activations
from nemesis.job import job

with job(snakemake.log[0]):
    gather_activations(snakemake.input.shards, snakemake.output.maps.removesuffix("/zarr.json"))
