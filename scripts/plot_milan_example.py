"""Figure 3 for MILAN: one unit's exemplars and description before and after a corruption."""

from nemesis.figures.milan_example import ShownFiles, gather_change, plot_change
from nemesis.figures.style import save_figure
from nemesis.job import job
from nemesis.plan.files import pair_files
from nemesis.scoring.descriptions import read_scores

with job(snakemake.log[0]):
    files = pair_files(snakemake.input, snakemake.params.places)
    shown = ShownFiles(files["clean"], files["corrupted"], files["poison"])
    example = gather_change(read_scores(files["scores"]), shown, snakemake.input.threshold)
    save_figure(plot_change(example), *snakemake.output.figures)
