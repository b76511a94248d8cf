"""A sheet of clean units with their exemplars, descriptions and labels."""

from nemesis.figures.milan_sheet import gather_units, plot_units
from nemesis.figures.style import save_figure
from nemesis.job import job
from nemesis.plan.files import pair_files

with job(snakemake.log[0]):
    params = snakemake.params
    files = pair_files(snakemake.input, params.places)
    units = gather_units(files["exemplars"], files["descriptions"], files["dissections"], params.min_iou, params.seed)
    save_figure(plot_units(units), *snakemake.output.figures)
