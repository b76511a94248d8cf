"""Download and unpack one version of Broden."""

from pathlib import Path

from nemesis.fetch import download_broden
from nemesis.job import job

with job(snakemake.log[0]):
    download_broden(
        version=snakemake.wildcards.version,
        archive=snakemake.params.archive,
        target=Path(snakemake.output.index).parent,
        user_copy=snakemake.params.user_copy,
    )
