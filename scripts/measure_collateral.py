"""What else the poisoned images change: other units of the layer, and the network's predictions."""

from pathlib import Path

from nemesis.corruption.attacked import CleanFiles, open_attacked_layer
from nemesis.corruption.collateral import measure_collateral
from nemesis.corruption.shown import open_attack, prepare_pass
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.models.card import read_classes
from nemesis.models.registry import build_network

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    clean = CleanFiles(files.probe, files.concepts, files.maps, files.clean, files.thresholds, files.tally)
    layer = open_attacked_layer(wildcards.layer, clean, params.settings, params.device)
    attack = open_attack(files.poison, params.storage, params.seed)
    classes = read_classes(files.card) if params.spec.get("probe") == wildcards.probe else None
    network = build_network(params.model, params.spec, Path(files.weights))
    forward = prepare_pass(layer, network, params.batch, pad=True)
    write_csv(measure_collateral(layer, forward, attack, classes), snakemake.output.collateral)
