"""What the network itself says of the probe, the more of its images are poisoned."""

from pathlib import Path

from nemesis.corruption.shown import open_attack, prepare_pass
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.milan.attack import limit_counts, open_described
from nemesis.milan.predictions import find_class_map, predict_poisoned
from nemesis.models.card import read_classes, read_head
from nemesis.models.registry import build_network

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    designed = params.designed
    layer = open_described(wildcards.layer, files.probe, files.maps, files.exemplars, params.device)
    concepts = read_classes(files.card) if params.spec.get("probe") == wildcards.probe else None
    counts = limit_counts(designed["counts"], designed["images"])
    network = build_network(params.model, params.spec, Path(files.weights))
    forward = prepare_pass(layer, network, params.batch, pad=True)
    head = read_head(files.card)
    classes = find_class_map(layer.probe, concepts, head)
    for store, table in zip(files.poison, snakemake.output.predictions, strict=True):
        attack = open_attack(store, designed["storage"], params.seed)
        write_csv(predict_poisoned(attack, forward, counts, head is not None, classes), table)
