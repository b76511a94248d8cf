"""Draw the embedded probing dataset, a folder in Broden's layout."""

from pathlib import Path

from nemesis.job import job
from nemesis.probes.minibroden import contact_sheet, drawing_seed, make_minibroden

with job(snakemake.log[0]):
    folder = Path(snakemake.output.index).parent
    make_minibroden(
        folder,
        images=snakemake.params.images,
        size=snakemake.params.size,
        seed=drawing_seed(snakemake.params.seed, snakemake.params.draw),
        workers=snakemake.threads,
    )
    contact_sheet(folder, min(48, snakemake.params.images), Path(snakemake.output.sheet))
