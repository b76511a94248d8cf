"""What else the poisoned images change: other units of the layer, and the network's predictions."""

from pathlib import Path

from nemesis.corruption.attacked import CleanFiles, open_attacked_layer
from nemesis.corruption.collateral import measure_collateral
from nemesis.corruption.shown import open_attack, prepare_pass
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.models.card import read_classes, read_head
from nemesis.models.predictions import map_concepts
from nemesis.models.registry import build_network

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    clean = CleanFiles(files.probe, files.concepts, files.maps, files.clean, files.thresholds, files.tally)
    layer = open_attacked_layer(wildcards.layer, clean, params.settings, params.device)
    attack = open_attack(files.poison, params.storage, params.seed)
    concepts = read_classes(files.card) if params.spec.get("probe") == wildcards.probe else None
    classes = None if concepts is None else map_concepts(concepts)
    network = build_network(params.model, params.spec, Path(files.weights))
    forward = prepare_pass(layer, network, params.batch, pad=True)
    classifies = read_head(files.card) is not None
    write_csv(measure_collateral(layer, forward, attack, classifies, classes), snakemake.output.collateral)
