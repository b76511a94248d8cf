"""Dissect the attacked units again, beside their controls and at smaller budgets."""

import contextlib
from pathlib import Path

from nemesis.corruption.designed import dissect_designed
from nemesis.corruption.export import export_poison
from nemesis.corruption.layers import open_layer, open_reader
from nemesis.corruption.poisoned import open_poison, write_row_maps
from nemesis.files import write_csv
from nemesis.job import job

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    layer = open_layer(files, params, snakemake.wildcards.layer)
    poisons = [open_poison(Path(store).parent) for store in files.poison]
    with contextlib.ExitStack() as stack:
        reader, batch = stack.enter_context(open_reader(layer, files, params, pad=True))
        keeps = [
            stack.enter_context(write_row_maps(Path(target).parent, poison, layer.maps, (store,)))
            for target, poison, store in zip(output.maps, poisons, files.poison, strict=True)
        ]
        tables = dissect_designed(layer, poisons, reader, params.storage, params.budgets, params.seed, batch, keeps)
    for number, (poison, (table, curve)) in enumerate(zip(poisons, tables, strict=True)):
        if output.broden:
            export_poison(poison, layer.probe, Path(params.source).parent, output.broden[number], params.storage)
        write_csv(curve, output.budget[number])
        write_csv(table, output.dissection[number])
