"""What else the poisoned images change: other units of the layer, and the network's predictions."""

from pathlib import Path

from nemesis.corruption.collateral import measure_collateral
from nemesis.corruption.layers import open_layer, prepare_reader
from nemesis.corruption.poisoned import open_poison
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.models.card import read_classes

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    layer = open_layer(files, params, wildcards.layer)
    poison = open_poison(Path(files.poison).parent)
    classes = read_classes(files.card) if params.spec.get("probe") == wildcards.probe else None
    reader, batch = prepare_reader(layer, files, params, pad=True)
    write_csv(
        measure_collateral(layer, poison, reader, params.storage, params.seed, batch, classes),
        snakemake.output.collateral,
    )
