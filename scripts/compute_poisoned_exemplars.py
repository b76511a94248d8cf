"""Exemplars of the attacked units, the more of their images are poisoned, and under noise of the same size."""

from pathlib import Path

from nemesis.corruption.poisoned import open_poison
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.milan.attack import limit_counts, open_described
from nemesis.milan.exemplar_store import read_normalisation, write_exemplars
from nemesis.milan.poisoned import collect_poisoned_exemplars
from nemesis.stores import open_store

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    milan, designed = params.milan, params.designed
    layer = open_described(files, params, snakemake.wildcards.layer)
    counts = limit_counts(designed["counts"], designed["images"])
    normalisation = read_normalisation(files.card) if milan["published"] else None
    options = (milan["exemplars"], milan["quantile"], milan["size"], normalisation)
    for number, store in enumerate(files.poison):
        poison, row_maps = open_poison(Path(store).parent), open_store(Path(files.poisoned_maps[number]).parent)
        found = collect_poisoned_exemplars(layer, poison, row_maps, counts, designed["storage"], params.seed, *options)
        write_exemplars(
            Path(snakemake.output.exemplars[number]).parent,
            found,
            sha256_json([milan, designed]),
            (files.probe, files.maps, store),
            layer=layer.name,
            quantile=milan["quantile"],
        )
