"""Download and unpack one version of Broden."""

from pathlib import Path

from nemesis.job import job
from nemesis.probes.broden_download import download_broden

with job(snakemake.log[0]):
    download_broden(
        version=snakemake.wildcards.version,
        archive=snakemake.params.archive,
        target=Path(snakemake.output.index).parent,
        user_copy=snakemake.params.user_copy,
    )
