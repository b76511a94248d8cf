"""Figure 3 for MILAN: one unit's exemplars and description before and after a corruption."""

from nemesis.figures.milan_example import gather_change, plot_change
from nemesis.figures.style import save_figure
from nemesis.job import job

with job(snakemake.log[0]):
    save_figure(plot_change(gather_change(snakemake.input, snakemake.params.candidates)), *snakemake.output)
