"""Attack the images from which units are described, for every eps, and keep the maps of the poisoned images."""

from pathlib import Path

from nemesis.corruption.attack import METHODS, Record, poison_layer
from nemesis.corruption.shown import open_attack, prepare_pass
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.milan.attack import open_described, plan_exemplar_attack, write_row_maps
from nemesis.models.registry import build_network
from nemesis.perturb.poison import needs_residue
from nemesis.stores import Origin

with job(snakemake.log[0], snakemake.threads):
    params, files, output, wildcards = snakemake.params, snakemake.input, snakemake.output, snakemake.wildcards
    designed, seed = params.designed, params.seed
    layer = open_described(wildcards.layer, files.probe, files.maps, files.exemplars, params.device)
    subject, plan = plan_exemplar_attack(layer, designed["units"], designed["images"], wildcards.mode, seed)
    network = build_network(params.model, params.spec, Path(files.weights))
    forward = prepare_pass(layer, network, params.batch, pad=False)
    attack = METHODS[wildcards.method](forward.reader, layer.name, designed["steps"])
    stores = dict(zip(designed["eps"], output.poison, strict=True))
    origin = Origin(sha256_json(designed), (files.probe, files.weights, files.exemplars))
    record = Record(origin, seed, needs_residue([designed["storage"]]))
    poison_layer(stores, attack, plan, subject, forward.batch, record)
    forward = prepare_pass(layer, network, params.batch, pad=True)
    for store, maps in zip(output.poison, output.maps, strict=True):
        attack = open_attack(store, designed["storage"], seed)
        write_row_maps(maps, attack, forward, (store,))
