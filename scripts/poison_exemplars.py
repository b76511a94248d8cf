"""Attack the images from which units are described, for every eps, and keep the maps of the poisoned images."""

from pathlib import Path

from nemesis.corruption.attack import METHODS
from nemesis.corruption.layers import open_reader, poison_layer
from nemesis.corruption.poisoned import open_poison
from nemesis.job import job
from nemesis.milan.attack import open_described, plan_attack, write_row_maps

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    designed = params.designed
    layer = open_described(files, params, snakemake.wildcards.layer)
    subject, plan = plan_attack(layer, designed, snakemake.wildcards.mode, params.seed)
    stores = {eps: Path(path).parent for eps, path in zip(designed["eps"], output.poison, strict=True)}
    inputs = (files.probe, files.weights, files.exemplars)
    with open_reader(layer, files, params, pad=False) as (reader, batch):
        attack = METHODS[snakemake.wildcards.method](reader, layer.name, designed["steps"])
        poison_layer(layer.name, subject, plan, attack, batch, stores, params, inputs)
    with open_reader(layer, files, params, pad=True) as (reader, batch):
        for number, store in enumerate(output.poison):
            poison = open_poison(Path(store).parent)
            maps, dtype = Path(output.maps[number]).parent, layer.maps.dtype
            write_row_maps(
                maps, poison, reader, layer.name, layer.probe, dtype, designed["storage"], params.seed, batch, (store,)
            )
