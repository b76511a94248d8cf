"""Bring a published checkpoint of MILAN, the user's or a fetched one, into one format."""

from pathlib import Path

from nemesis.job import job
from nemesis.milan.checkpoint import load_published, save_captioner
from nemesis.milan.fetch import fetch_checkpoint

with job(snakemake.log[0]):
    params, output = snakemake.params, snakemake.output
    spec = params.captioner
    path = Path(spec["path"]) if spec["kind"] == "checkpoint" else fetch_checkpoint(spec["name"], params.archive)
    save_captioner(load_published(path), output.captioner, output.card, source=path.name)
