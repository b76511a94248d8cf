"""Attack units of a layer: the images that change what they are called, for every eps."""

from pathlib import Path

from nemesis.corruption.attack import METHODS, Record, poison_layer
from nemesis.corruption.attacked import CleanFiles, open_attacked_layer
from nemesis.corruption.plan import plan_attack, select_attacked
from nemesis.corruption.shown import prepare_pass
from nemesis.corruption.targets import Aim
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.models.registry import build_network
from nemesis.perturb.poison import needs_residue
from nemesis.probes.probe import read_concepts
from nemesis.stores import Origin

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    designed, seed = params.designed, params.seed
    clean = CleanFiles(files.probe, files.concepts, files.maps, files.clean, files.thresholds, files.tally)
    layer = open_attacked_layer(wildcards.layer, clean, params.settings, params.device)
    aim = Aim(
        wildcards.mode, wildcards.masks, designed["targets"], designed["objective"], designed["max_fraction"], seed
    )
    units = select_attacked(layer, params.units, designed["units"], seed)
    concepts = read_concepts(files.concepts)
    subject, plan = plan_attack(layer, units, aim, concepts, int(params.shard), params.shards)
    network = build_network(params.model, params.spec, Path(files.weights))
    forward = prepare_pass(layer, network, params.batch, pad=False)
    attack = METHODS[wildcards.method](forward.reader, layer.name, designed["steps"])
    storages = [designed["storage"], *designed.get("compare_storage", {}).get("kinds", ())]
    origin = Origin(sha256_json(designed), (files.probe, files.weights, files.clean))
    stores = dict(zip(designed["eps"], snakemake.output.poison, strict=True))
    poison_layer(stores, attack, plan, subject, forward.batch, Record(origin, seed, needs_residue(storages)))
