"""Exemplars of the described units of every layer of a (probe, model) pair under one kind and size of noise."""

from pathlib import Path

import pandas as pd

from nemesis.corruption.noise import draw_seed
from nemesis.dissection.stored import open_maps
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.milan.exemplar_store import read_normalisation, write_exemplars
from nemesis.milan.exemplars import ExemplarSettings, choose_units
from nemesis.milan.noisy import collect_noisy_exemplars
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    milan, probe = params.milan, open_probe(Path(files.probe).parent)
    noise = {"kind": wildcards.kind, "std": float(wildcards.std), "storage": params.storage}
    normalisation = read_normalisation(files.card) if milan["published"] else None
    settings = ExemplarSettings(milan["exemplars"], milan["quantile"], milan["size"], normalisation)
    for number, layer in enumerate(params.layers):
        maps = open_maps(Path(files.maps[number]).parent)
        noisy = {
            (draw, draw_seed(params.seed, draw)): open_maps(files[f"draw_{draw}"][number]) for draw in params.draws
        }
        units = choose_units(params.units[layer], pd.read_csv(files.thresholds[number]), params.seed, layer)
        found = collect_noisy_exemplars(maps, noisy, probe, noise, params.fractions, units, settings)
        write_exemplars(
            Path(snakemake.output.exemplars[number]).parent,
            found,
            sha256_json([milan, noise]),
            (files.probe, files.maps[number]),
            layer=layer,
            quantile=milan["quantile"],
        )
