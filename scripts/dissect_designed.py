"""Dissect the attacked units again, beside their controls and at smaller budgets."""

import contextlib
from pathlib import Path

from nemesis.corruption.attacked import CleanFiles, open_attacked_layer
from nemesis.corruption.designed import dissect_designed
from nemesis.corruption.export import export_poison
from nemesis.corruption.poisoned import keep_row_maps
from nemesis.corruption.shown import open_attack, prepare_pass
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.models.registry import build_network

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    clean = CleanFiles(files.probe, files.concepts, files.maps, files.clean, files.thresholds, files.tally)
    layer = open_attacked_layer(snakemake.wildcards.layer, clean, params.settings, params.device)
    network = build_network(params.model, params.spec, Path(files.weights))
    forward = prepare_pass(layer, network, params.batch, pad=True)
    attacks = [open_attack(store, params.storage, params.seed) for store in files.poison]
    with contextlib.ExitStack() as stack:
        keeps = [
            stack.enter_context(keep_row_maps(target, attack.poison, layer.maps, (store,)))
            for target, attack, store in zip(output.maps, attacks, files.poison, strict=True)
        ]
        tables = dissect_designed(layer, forward, attacks, params.budgets, keeps)
    for number, (attack, (table, curve)) in enumerate(zip(attacks, tables, strict=True)):
        if output.broden:
            source = Path(params.source).parent
            export_poison(attack.poison, layer.probe, source, output.broden[number], params.storage)
        write_csv(curve, output.budget[number])
        write_csv(table, output.dissection[number])
