"""Exemplars of the described units of every layer of a (probe, model) pair, and of resampled probes."""

from pathlib import Path

import pandas as pd

from nemesis.dissection.bootstrap import resample_weights
from nemesis.dissection.stored import open_maps
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.milan.exemplar_store import read_normalisation, write_exemplars
from nemesis.milan.exemplars import ExemplarSettings, choose_units, collect_exemplars, join_exemplars
from nemesis.probes.probe import open_probe, remember_images

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    milan, probe = params.milan, open_probe(Path(files.probe).parent)
    images = remember_images(probe)
    normalisation = read_normalisation(files.card) if milan["published"] else None
    settings = ExemplarSettings(milan["exemplars"], milan["quantile"], milan["size"], normalisation)
    for number, layer in enumerate(params.layers):
        maps = open_maps(Path(files.maps[number]).parent)
        units = choose_units(params.units[layer], pd.read_csv(files.thresholds[number]), params.seed, layer)
        record = {"config_hash": sha256_json(milan), "inputs": (files.probe, files.maps[number])}
        record |= {"layer": layer, "quantile": milan["quantile"]}
        clean = collect_exemplars(maps, images, units, settings)
        write_exemplars(Path(output.exemplars[number]).parent, clean, **record)
        replicates = []
        for replicate in range(milan["null_replicates"]):
            weights = resample_weights(probe.count, replicate, params.seed)
            columns = {"replicate": replicate}
            found = collect_exemplars(maps, images, units, settings, weights, columns)
            replicates.append(found)
        if replicates:
            write_exemplars(Path(output.null[number]).parent, join_exemplars(replicates), **record)
