"""A layer's part of the report: its units' tables, strongest images and masks."""

from nemesis.job import job
from nemesis.pages.settings import LayerFiles, open_report_layer
from nemesis.pages.units import write_layer
from nemesis.plan.files import pair_files

# Inputs of one file; of the last five a layer may have none.
SINGLE = ("probe", "maps", "thresholds", "clean", "null_churn", "minimum", "descriptions", "scores")

with job(snakemake.log[0]):
    params, wildcards = snakemake.params, snakemake.wildcards
    single = {name: snakemake.input.get(name) or None for name in SINGLE}
    files = LayerFiles(**single, **pair_files(snakemake.input, params.places))
    place = (wildcards.probe, wildcards.model, wildcards.layer)
    write_layer(snakemake.output.folder, open_report_layer(files, place, params.seed), params.units, params.min_iou)
