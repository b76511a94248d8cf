"""What is left of an attack under each way to store images, beside the storage alone."""

from pathlib import Path

from nemesis.corruption.compare import compare_storages
from nemesis.corruption.layers import open_layer, open_reader
from nemesis.corruption.poisoned import open_poison
from nemesis.files import write_csv
from nemesis.job import job

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    layer = open_layer(files, params, snakemake.wildcards.layer)
    poison = open_poison(Path(files.poison).parent)
    with open_reader(layer, files, params, pad=True) as (reader, batch):
        table = compare_storages(layer, poison, reader, params.storages, batch)
    write_csv(table, snakemake.output.storage)
