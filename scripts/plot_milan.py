"""Tables and figures about MILAN's descriptions before and after corruption."""

from nemesis.figures.milan_report import write_milan_report
from nemesis.figures.milan_tables import gather_scores
from nemesis.files import atomic_file
from nemesis.job import job
from nemesis.plan.files import group_files, pair_files

with job(snakemake.log[0]):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    found = pair_files(files, params.places)
    scores = gather_scores(
        found["scores"], found["predictions"], params.noises, params.designs, files.threshold, params.seed
    )
    tables, figures = group_files(output.tables, params.tables), group_files(output.figures, params.figures)
    summary = write_milan_report(scores, tables, figures)
    with atomic_file(output.summary) as partial:
        partial.write_text(summary, encoding="utf-8")
