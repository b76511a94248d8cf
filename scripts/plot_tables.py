"""Tables and figures of labels, clean and under noise; the summary where no unit is attacked."""

from nemesis.figures.labels import Labels
from nemesis.figures.report import summary_text, write_labels
from nemesis.files import atomic_file
from nemesis.job import job
from nemesis.plan.files import group_files, pair_files

with job(snakemake.log[0]):
    params, output = snakemake.params, snakemake.output
    files = pair_files(snakemake.input, params.places)
    labels = Labels(**files, units=dict(params.units), min_iou=params.min_iou, seed=params.seed)
    tables, figures = group_files(output.tables, params.tables), group_files(output.figures, params.figures)
    made = write_labels(labels, tables, figures)
    if output.summary:
        with atomic_file(output.summary) as partial:
            partial.write_text(summary_text(made["labels"], made.get("noise")), encoding="utf-8")
