"""Figure 3: one unit before and after its label was changed."""

from nemesis.figures.style import save_figure
from nemesis.figures.unit import UnitFiles, gather_example, plot_example
from nemesis.job import job

with job(snakemake.log[0]):
    params, files = snakemake.params, snakemake.input
    single = {name: files[name] for name in ("probe", "maps", "tally", "clean", "poison", "poisoned_maps")}
    tables = dict(zip(params.eps, files.tables, strict=True))
    example = gather_example(UnitFiles(layer=params.place[-1], tables=tables, **single))
    save_figure(plot_example(example, params.place, params.eps[-1]), *snakemake.output.figures)
