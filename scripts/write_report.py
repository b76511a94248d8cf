"""The page of the whole run, with all of its tables and figures; and what was found, in three sentences."""

from pathlib import Path

from nemesis.job import job
from nemesis.pages.site import Site, write_site

with job(snakemake.log[0]):
    params, files = snakemake.params, snakemake.input
    site = Site(
        layers=params.layers,
        folders=[Path(path) for path in files.layers],
        probes={name: Path(path).parent for name, path in zip(params.probes, files.probes, strict=True)},
        tables=params.tables,
        figures=params.figures,
        cards=dict(zip(params.models, files.cards, strict=True)),
        config=params.config,
        storage=params.storage,
        seed=params.seed,
        results=Path("results"),
        template=Path(snakemake.scriptdir).parent / "report",
    )
    write_site(site, snakemake.output.index, snakemake.output.page, snakemake.output.headline)
