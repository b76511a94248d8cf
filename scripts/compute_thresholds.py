"""Exact activation threshold of every unit of a layer (Eq. 1)."""

from pathlib import Path

from nemesis.dissection.thresholds import write_thresholds
from nemesis.job import job

with job(snakemake.log[0], snakemake.threads):
    write_thresholds(
        Path(snakemake.input.maps).parent,
        snakemake.output.thresholds,
        snakemake.params.settings["quantile"],
        snakemake.params.settings["threshold"],
    )
