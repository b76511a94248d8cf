"""Dissect every layer of a (probe, model) pair again under one kind and size of noise."""

from pathlib import Path

from nemesis.corruption.noise import draw_seed
from nemesis.corruption.noisy import draw_noisy
from nemesis.corruption.relabel import dissect_noisy
from nemesis.dissection.again import Rerun, counting_device, read_recipe, rerun_probe
from nemesis.dissection.dissect import load_concepts
from nemesis.dissection.select import select_units
from nemesis.dissection.stored import open_maps
from nemesis.dissection.tables import read_table
from nemesis.dissection.tops import write_tops
from nemesis.files import sha256_json, write_csv
from nemesis.job import job
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    probe = open_probe(Path(files.probe).parent)
    concepts = load_concepts(files.concepts, probe)
    recipe = read_recipe(params, files)
    kind, std = snakemake.wildcards.kind, float(snakemake.wildcards.std)
    noises = {
        draw: Rerun(recipe, draw_noisy(probe, kind, std, params.noise, draw), probe.size) for draw in params.draws
    }
    for number, layer in enumerate(params.layers):
        clean = read_table(files.clean[number])
        noisy = {
            (draw, draw_seed(params.seed, draw)): open_maps(files[f"draw_{draw}"][number], layer, noises[draw])
            for draw in params.draws
        }
        units = select_units(params.units[layer], clean, params.settings["min_iou"], params.seed, layer)
        maps = open_maps(Path(files.maps[number]).parent, layer, rerun_probe(recipe, probe))
        table, tops = dissect_noisy(
            maps,
            noisy,
            clean,
            probe,
            concepts,
            counting_device(maps, recipe),
            params.settings,
            params.fractions,
            units,
        )
        config_hash = sha256_json([params.settings, params.fractions, params.draws, params.seed])
        inputs = (files.probe, files.maps[number], files.clean[number])
        write_tops(Path(snakemake.output.tops[number]).parent, tops, config_hash, inputs)
        write_csv(table, snakemake.output.dissection[number])
