"""What is left of an attack under each way to store images, beside the storage alone."""

from pathlib import Path

from nemesis.corruption.attacked import CleanFiles, open_attacked_layer
from nemesis.corruption.designed import compare_storages
from nemesis.corruption.shown import prepare_pass
from nemesis.corruption.targets import Task
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.models.registry import build_network
from nemesis.perturb.poison import open_poison

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    clean = CleanFiles(files.probe, files.concepts, files.maps, files.clean, files.thresholds, files.tally)
    layer = open_attacked_layer(snakemake.wildcards.layer, clean, params.settings, params.device)
    network = build_network(params.model, params.spec, Path(files.weights))
    forward = prepare_pass(layer, network, params.batch, pad=True)
    poison = open_poison(files.poison, Task)
    write_csv(compare_storages(layer, forward, poison, params.storages), snakemake.output.storage)
