"""Dissect a layer again under one kind and size of noise, for every draw and share of the images."""

from nemesis.corruption.mixed import NoisyMaps
from nemesis.corruption.noisy import compare_noisy, dissect_noisy, draw_noisy, find_noisy_tops
from nemesis.dissection.dissect import load_concepts
from nemesis.dissection.draws import select_units
from nemesis.dissection.rerun import Recipe, Rerun, counting_device, rerun_probe
from nemesis.dissection.stored import open_maps
from nemesis.dissection.tables import read_table
from nemesis.dissection.tops import write_tops
from nemesis.files import sha256_json, write_csv
from nemesis.job import job
from nemesis.perturb.noise import draw_seed
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    layer, settings, seed = wildcards.layer, params.settings, params.seed
    probe, clean = open_probe(files.probe), read_table(files.clean)
    recipe = Recipe(params.model, params.spec, files.weights, settings["dtype"], params.batch, params.device)
    maps = open_maps(files.maps, layer, rerun_probe(recipe, probe))
    draws = {}
    for draw, store in zip(params.draws, files.draws, strict=True):
        source = draw_noisy(probe, wildcards.kind, float(wildcards.std), params.noise, draw)
        draws[draw, draw_seed(seed, draw)] = open_maps(store, layer, Rerun(recipe, source, probe.size))
    units = select_units(params.units, clean, settings["min_iou"], seed, layer)
    noisy = NoisyMaps(maps, draws, params.fractions)
    concepts, device = load_concepts(files.concepts, probe), counting_device(maps, recipe)
    runs = dissect_noisy(noisy, probe, concepts, device, settings)
    config_hash = sha256_json([settings, params.fractions, params.draws, seed])
    inputs = (files.probe, files.maps, files.clean)
    write_tops(snakemake.output.tops, find_noisy_tops(runs, units), config_hash, inputs)
    write_csv(compare_noisy(runs, clean, units), snakemake.output.dissection)
