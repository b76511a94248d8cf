"""A layer's part of the report: its units' tables, strongest images and masks."""

from nemesis.job import job
from nemesis.pages.layer import write_layer
from nemesis.pages.settings import open_layer

with job(snakemake.log[0]):
    params, files = snakemake.params, snakemake.input
    layer = open_layer(files, snakemake.wildcards.layer, params.seed, params.noises, params.designs, params.attacks)
    place = {name: snakemake.wildcards[name] for name in ("probe", "model", "layer")}
    write_layer(snakemake.output.folder, place, layer, params.units, params.min_iou)
