"""The smallest eps that changes each unit's label (Eq. 6), by bisection."""

from nemesis.corruption.attack import METHODS
from nemesis.corruption.layers import open_layer, plan_attack, prepare_reader
from nemesis.corruption.minimum import find_minimum
from nemesis.dissection.tables import read_table
from nemesis.files import write_csv
from nemesis.job import job

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    layer = open_layer(files, params, wildcards.layer)
    subject, plan = plan_attack(layer, files.concepts, params, "untargeted", wildcards.masks)
    known = {eps: read_table(path) for eps, path in zip(params.known, files.known, strict=True)}
    reader, batch = prepare_reader(layer, files, params, pad=False)
    attack = METHODS[wildcards.method](reader, layer.name, params.designed["steps"])
    table = find_minimum(layer, subject, plan, attack, known, params.highest, batch)
    write_csv(table, snakemake.output.table)
