"""Exemplars of a layer's described units under one kind and size of noise."""

from pathlib import Path

import pandas as pd

from nemesis.corruption.noise import draw_seed
from nemesis.dissection.stored import open_maps
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.milan.exemplar_store import read_normalisation, write_exemplars
from nemesis.milan.noisy import collect_noisy_exemplars
from nemesis.milan.units import choose_units
from nemesis.plan.files import pair_files
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    milan, layer, probe = params.milan, wildcards.layer, open_probe(Path(files.probe).parent)
    noise = {"kind": wildcards.kind, "std": float(wildcards.std), "storage": params.storage}
    options = (milan["exemplars"], milan["quantile"], milan["size"])
    normalisation = read_normalisation(files.card) if milan["published"] else None
    maps = open_maps(Path(files.maps).parent, layer)
    stores = pair_files(files, params.places)["draws"]
    noisy = {(draw, draw_seed(params.seed, draw)): open_maps(Path(store), layer) for draw, store in stores.items()}
    units = choose_units(params.units, pd.read_csv(files.thresholds), params.seed, layer)
    found = collect_noisy_exemplars(
        maps, noisy, probe, noise, params.fractions, units, *options, normalisation=normalisation
    )
    write_exemplars(
        Path(snakemake.output.exemplars).parent,
        found,
        sha256_json([milan, noise]),
        (files.probe, files.maps),
        layer=layer,
        quantile=milan["quantile"],
    )
