"""Tables and figures about MILAN's descriptions before and after corruption."""

from nemesis.figures.milan_report import write_milan_report
from nemesis.figures.milan_tables import gather_scores
from nemesis.files import atomic_file
from nemesis.job import job

with job(snakemake.log[0]):
    params = snakemake.params
    scores = gather_scores(snakemake.input, params.places, params.noises, params.designs, params.seed)
    summary = write_milan_report(scores, params.tables, params.figures)
    with atomic_file(snakemake.output.summary) as partial:
        partial.write_text(summary, encoding="utf-8")
