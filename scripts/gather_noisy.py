"""Join the shards of an extraction under noise into one activations.zarr."""

from pathlib import Path

from nemesis.dissection.gather import gather_activations
from nemesis.job import job

with job(snakemake.log[0]):
    gather_activations(snakemake.input.shards, Path(snakemake.output.maps.removesuffix("/zarr.json")))
