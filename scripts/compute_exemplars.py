"""Exemplars of a layer's described units, and of the same units on resampled probes."""

from pathlib import Path

import pandas as pd

from nemesis.dissection.draws import resample_weights
from nemesis.dissection.stored import open_maps
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.milan.exemplar_store import read_normalisation, write_exemplars
from nemesis.milan.exemplars import ExemplarSettings, choose_units, collect_exemplars, join_exemplars
from nemesis.probes.probe import open_probe, remember_images

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    milan, layer, probe = params.milan, snakemake.wildcards.layer, open_probe(Path(files.probe).parent)
    images, maps = remember_images(probe), open_maps(Path(files.maps).parent, layer)
    units = choose_units(params.units, pd.read_csv(files.thresholds), params.seed, layer)
    normalisation = read_normalisation(files.card) if milan["published"] else None
    settings = ExemplarSettings(milan["exemplars"], milan["quantile"], milan["size"], normalisation)
    record = {"config_hash": sha256_json(milan), "inputs": (files.probe, files.maps)}
    record |= {"layer": layer, "quantile": milan["quantile"]}
    write_exemplars(Path(output.exemplars).parent, collect_exemplars(maps, images, units, settings), **record)
    replicates = []
    for replicate in range(milan["null_replicates"]):
        weights = resample_weights(probe.count, replicate, params.seed)
        replicates.append(collect_exemplars(maps, images, units, settings, weights, {"replicate": replicate}))
    if replicates:
        write_exemplars(Path(output.null).parent, join_exemplars(replicates), **record)
