"""Activation maps of all layers of a (probe, model) pair for the images that noise corrupts."""

from pathlib import Path

from nemesis.corruption.noisy import draw_noisy
from nemesis.dissection.extract import extract_layers
from nemesis.job import job
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    probe = open_probe(Path(files.probe).parent)
    source = draw_noisy(probe, wildcards.kind, float(wildcards.std), params.noise, int(wildcards.draw))
    extract_layers(
        params.model,
        dict(params.items()),
        files.weights,
        probe,
        source,
        snakemake.output.maps,
        (files.probe, files.weights),
        counted=False,
    )
