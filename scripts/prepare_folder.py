"""Decode a folder of images without masks once: probe.zarr and an empty concepts.csv."""

from pathlib import Path

from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.probes.folder import Crop, prepare_folder

with job(snakemake.log[0]):
    spec = snakemake.params.spec
    prepare_folder(
        snakemake.input.folder,
        Path(snakemake.output.store).parent,
        snakemake.output.concepts,
        Crop(spec["size"], spec.get("resize")),
        max_images=spec.get("max_images"),
        config_hash=sha256_json(spec),
    )
