"""The page of the whole run, with all of its tables and figures; and what was found, in a few sentences."""

from pathlib import Path

from nemesis.job import job
from nemesis.pages.site import Site, write_site
from nemesis.pages.views import Units, view_units
from nemesis.plan.files import group_files, pair_files

with job(snakemake.log[0]):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    found = pair_files(files, params.places)
    layers = {place: Path(folder) for place, folder in found["layers"].items()}
    probes = {name: Path(path).parent for name, path in found["probes"].items()}
    site = Site(
        views=[view_units(Units(layers, probes, params.storage, params.seed))] if layers else [],
        probes=probes,
        cards=found["cards"],
        tables=group_files(files.tables, params.tables),
        figures=group_files(files.figures, params.figures),
        config=params.config,
        seed=params.seed,
        template=Path(snakemake.scriptdir).parent / "report",
    )
    write_site(site, output.index, output.page, output.headline)
