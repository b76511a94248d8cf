"""Exemplars of a layer's described units under one kind and size of noise."""

import pandas as pd

from nemesis.corruption.mixed import NoisyMaps
from nemesis.dissection.stored import open_maps
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.milan.exemplar_store import read_normalisation, write_exemplars
from nemesis.milan.exemplars import ExemplarSettings, choose_units
from nemesis.milan.noisy import collect_noisy_exemplars
from nemesis.perturb.noise import StoredNoise, draw_seed
from nemesis.plan.files import pair_files
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    milan, layer, probe = params.milan, wildcards.layer, open_probe(files.probe)
    noise = StoredNoise(wildcards.kind, float(wildcards.std), params.storage)
    normalisation = read_normalisation(files.card) if milan["published"] else None
    settings = ExemplarSettings(milan["exemplars"], milan["quantile"], milan["size"], normalisation)
    stores = pair_files(files, params.places)["draws"]
    draws = {(draw, draw_seed(params.seed, draw)): open_maps(store, layer) for draw, store in stores.items()}
    noisy = NoisyMaps(open_maps(files.maps, layer), draws, params.fractions)
    units = choose_units(params.units, pd.read_csv(files.thresholds), params.seed, layer)
    write_exemplars(
        snakemake.output.exemplars,
        collect_noisy_exemplars(noisy, probe, noise, units, settings),
        sha256_json([milan, vars(noise)]),
        (files.probe, files.maps),
        layer=layer,
        quantile=milan["quantile"],
    )
