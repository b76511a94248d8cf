"""Download the published weights of one kind of network."""

from nemesis.job import job
from nemesis.models.fetch import download_weights

with job(snakemake.log[0]):
    download_weights(snakemake.wildcards.kind, snakemake.params.archive, snakemake.output.weights)
