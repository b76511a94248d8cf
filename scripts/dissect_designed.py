"""Dissect the attacked units again, beside their controls and at smaller budgets."""

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
    for number, store in enumerate(files.poison):
        poison = open_poison(Path(store).parent)
        target = Path(output.maps[number]).parent
        with (
            open_reader(layer, files, params, pad=True) as (reader, batch),
            write_row_maps(target, poison, layer.maps.shape[2:], layer.maps.dtype, (store,)) as keep,
        ):
            table, curve = dissect_designed(
                layer, poison, reader, params.storage, params.budgets, params.seed, batch, keep
            )
        if output.broden:
            export_poison(poison, layer.probe, Path(params.source).parent, output.broden[number], params.storage)
        write_csv(curve, output.budget[number])
        write_csv(table, output.dissection[number])
