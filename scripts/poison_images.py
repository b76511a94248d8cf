"""Attack units of a layer: the images that change what they are called, for every eps."""

from pathlib import Path

from nemesis.corruption.attack import METHODS
from nemesis.corruption.layers import open_layer, open_reader, plan_attack, poison_layer
from nemesis.job import job

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    layer = open_layer(files, params, wildcards.layer)
    part = (int(params.shard), params.shards)
    subject, plan = plan_attack(layer, files.concepts, params, wildcards.mode, wildcards.masks, *part)
    stores = {eps: Path(path).parent for eps, path in zip(params.designed["eps"], snakemake.output.poison, strict=True)}
    with open_reader(layer, files, params, pad=False) as (reader, batch):
        attack = METHODS[wildcards.method](reader, layer.name, params.designed["steps"])
        inputs = (files.probe, files.weights, files.clean)
        poison_layer(layer.name, subject, plan, attack, batch, stores, params, inputs)
