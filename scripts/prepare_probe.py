"""Decode a folder in Broden's layout once: probe.zarr and concepts.csv."""

from pathlib import Path

from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.probes.probe import prepare_probe

with job(snakemake.log[0]):
    prepare_probe(
        Path(snakemake.input.index).parent,
        Path(snakemake.output.store).parent,
        snakemake.output.concepts,
        splits=snakemake.params.spec.get("splits"),
        max_images=snakemake.params.spec.get("max_images"),
        config_hash=sha256_json(snakemake.params.spec),
    )
