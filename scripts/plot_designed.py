"""Tables and figures of the designed corruption, and the summary of everything."""

import pandas as pd

from nemesis.figures.attacks import Attacks
from nemesis.figures.report import summary_text, write_designed
from nemesis.figures.tables import PLACE
from nemesis.files import atomic_file
from nemesis.job import job
from nemesis.plan.files import group_files, pair_files

with job(snakemake.log[0]):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    settings = {name: params[name] for name in ("budgets", "storages", "highest", "min_iou", "seed")}
    attacks = Attacks(**pair_files(files, params.places), **settings)
    tables, figures = group_files(output.tables, params.tables), group_files(output.figures, params.figures)
    designed = write_designed(attacks, tables, figures)["designed"]
    names = dict.fromkeys(PLACE, str)
    labels = pd.read_csv(files.labels, dtype=names)
    noise = pd.read_csv(files.noise, dtype=names) if files.get("noise") else None
    with atomic_file(output.summary) as partial:
        partial.write_text(summary_text(labels, noise, designed), encoding="utf-8")
