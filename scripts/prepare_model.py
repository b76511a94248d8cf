"""Bring a network's weights into one format (safetensors), and describe it on a card."""

from pathlib import Path

from nemesis.job import job
from nemesis.models.card import prepare_weights

with job(snakemake.log[0], snakemake.threads):
    prepare_weights(
        snakemake.wildcards.model,
        snakemake.params.spec,
        Path(snakemake.output.weights),
        Path(snakemake.output.card),
        snakemake.params.sizes,
    )
