"""The smallest eps that changes each unit's label (Eq. 6), by bisection."""

from pathlib import Path

from nemesis.corruption.attack import METHODS
from nemesis.corruption.attacked import CleanFiles, open_attacked_layer
from nemesis.corruption.minimum import find_minimum, open_brackets
from nemesis.corruption.plan import plan_attack, select_attacked
from nemesis.corruption.shown import prepare_pass
from nemesis.corruption.targets import Aim
from nemesis.dissection.tables import read_table
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.models.registry import build_network
from nemesis.probes.probe import read_concepts

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    designed, seed = params.designed, params.seed
    clean = CleanFiles(files.probe, files.concepts, files.maps, files.clean, files.thresholds, files.tally)
    layer = open_attacked_layer(wildcards.layer, clean, params.settings, params.device)
    aim = Aim("untargeted", wildcards.masks, designed["targets"], designed["objective"], designed["max_fraction"], seed)
    units = select_attacked(layer, params.units, designed["units"], seed)
    subject, plan = plan_attack(layer, units, aim, read_concepts(files.concepts))
    known = {eps: read_table(path) for eps, path in zip(params.known, files.known, strict=True)}
    network = build_network(params.model, params.spec, Path(files.weights))
    forward = prepare_pass(layer, network, params.batch, pad=False)
    attack = METHODS[wildcards.method](forward.reader, layer.name, designed["steps"])
    brackets = open_brackets(plan.tasks, known, params.highest)
    write_csv(find_minimum(layer, subject, plan, attack, forward.batch, brackets), snakemake.output.table)
