"""Figure 3: one unit before and after its label was changed."""

from nemesis.figures.noise import save_figure
from nemesis.figures.unit import gather_example, plot_example
from nemesis.job import job

with job(snakemake.log[0]):
    params = snakemake.params
    example = gather_example(snakemake.input, params.eps, params.place[2])
    save_figure(plot_example(example, params.place, params.eps[-1]), *snakemake.output)
