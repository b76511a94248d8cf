"""Download the published weights of one kind of network."""

from nemesis.fetch import download_weights
from nemesis.job import job
from nemesis.models.weights import load_weights

with job(snakemake.log[0]):
    download_weights(snakemake.wildcards.kind, snakemake.params.archive, snakemake.output.weights, load_weights)
