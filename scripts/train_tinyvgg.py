"""Train the small contrast network on a probe: which concepts occur in an image?"""

import logging
from pathlib import Path

from nemesis.job import job
from nemesis.models.card import Origin, save_model
from nemesis.models.registry import find_kind
from nemesis.models.training import train_tinyvgg
from nemesis.probes.probe import open_probe, present_concepts

with job(snakemake.log[0], snakemake.threads):
    name, spec = snakemake.wildcards.model, snakemake.params.spec
    probe = open_probe(Path(snakemake.input.probe).parent)
    images = probe.images(0, probe.count)
    targets, numbers = present_concepts(probe)
    state, metrics = train_tinyvgg(
        images,
        targets,
        probe.splits != "train",
        spec["epochs"],
        snakemake.params.seed,
        progress=lambda *values: logging.info("epoch %d/%d, loss %.4f", *values),
    )
    network = find_kind(name, spec).make(name, spec, state)
    network.module.load_state_dict(state)
    origin = Origin(f"trained on the probe {spec['probe']}", metrics, numbers)
    save_model(network, spec, Path(snakemake.output.weights), Path(snakemake.output.card), images.shape[2], origin)
