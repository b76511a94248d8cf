"""Tables and figures of the designed corruption, and the summary of everything."""

import pandas as pd

from nemesis.figures.attacks import Attacks
from nemesis.figures.report import write_report
from nemesis.figures.tables import PLACE, summary_text
from nemesis.files import atomic_file
from nemesis.job import job

with job(snakemake.log[0]):
    params, files = snakemake.params, snakemake.input
    designed = write_report(Attacks(**params.attacks), params.tables, params.figures)
    names = dict.fromkeys(PLACE, str)
    labels = pd.read_csv(files.labels, dtype=names)
    noise = pd.read_csv(files.noise, dtype=names) if files.noise else None
    with atomic_file(snakemake.output.summary[0]) as partial:
        partial.write_text(summary_text(labels, noise, designed), encoding="utf-8")
