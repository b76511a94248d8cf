"""Exact activation threshold of every unit of a layer (Eq. 1)."""

from pathlib import Path

from nemesis.dissection.thresholds import write_thresholds
from nemesis.job import job

with job(snakemake.log[0], snakemake.threads):
    settings = snakemake.params.settings
    store, layer = Path(snakemake.input.maps).parent, snakemake.wildcards.layer
    write_thresholds(store, layer, snakemake.output.thresholds, settings["quantile"], settings["threshold"])
