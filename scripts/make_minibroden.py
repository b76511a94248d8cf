"""Draw the embedded probing dataset, a folder in Broden's layout."""

from pathlib import Path

from nemesis.job import job
from nemesis.probes.minibroden import make_minibroden

with job(snakemake.log[0]):
    make_minibroden(
        Path(snakemake.output.index).parent,
        images=snakemake.params.images,
        size=snakemake.params.size,
        seed=snakemake.params.seed,
        workers=snakemake.threads,
    )
