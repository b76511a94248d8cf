"""Bring a published checkpoint of MILAN, the user's or a fetched one, into one format."""

from pathlib import Path

from nemesis.fetch import download_checkpoint
from nemesis.job import job
from nemesis.milan.checkpoint import load_published, save_captioner

with job(snakemake.log[0]):
    params, output = snakemake.params, snakemake.output
    spec = params.captioner
    if spec["kind"] == "checkpoint":
        path = Path(spec["path"])
    else:
        path = download_checkpoint(spec["name"], params.archive, load_published)
    save_captioner(load_published(path), output.captioner, output.card, source=path.name)
