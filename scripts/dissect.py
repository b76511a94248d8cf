"""Dissect a layer on the clean probe: best labels (Eq. 2 to 4), the tally, and the null churn."""

from pathlib import Path

from nemesis.dissection.again import read_recipe
from nemesis.dissection.dissect import load_concepts
from nemesis.dissection.layers import write_dissection
from nemesis.job import job
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    probe = open_probe(Path(snakemake.input.probe).parent)
    write_dissection(
        Path(snakemake.input.maps).parent,
        snakemake.input.thresholds,
        probe,
        load_concepts(snakemake.input.concepts, probe),
        snakemake.params.settings,
        snakemake.params.seed,
        {name: Path(path) for name, path in snakemake.output.items()},
        read_recipe(snakemake.params, snakemake.input),
    )
