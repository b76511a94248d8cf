"""Exemplars of the attacked units, the more of their images are poisoned, and under noise of the same size."""

from nemesis.corruption.shown import open_attack
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.milan.attack import limit_counts, open_described
from nemesis.milan.exemplar_store import read_normalisation, write_exemplars
from nemesis.milan.exemplars import ExemplarSettings
from nemesis.milan.poisoned import collect_poisoned_exemplars
from nemesis.stores import open_store

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    milan, designed = params.milan, params.designed
    layer = open_described(snakemake.wildcards.layer, files.probe, files.maps, files.exemplars, params.device)
    counts = limit_counts(designed["counts"], designed["images"])
    normalisation = read_normalisation(files.card) if milan["published"] else None
    settings = ExemplarSettings(milan["exemplars"], milan["quantile"], milan["size"], normalisation)
    for number, store in enumerate(files.poison):
        attack = open_attack(store, designed["storage"], params.seed)
        row_maps = open_store(files.poisoned_maps[number])
        found = collect_poisoned_exemplars(layer, attack, row_maps, counts, settings)
        write_exemplars(
            snakemake.output.exemplars[number],
            found,
            sha256_json([milan, designed]),
            (files.probe, files.maps, store),
            layer=layer.name,
            quantile=milan["quantile"],
        )
