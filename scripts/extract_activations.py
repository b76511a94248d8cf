"""Activation maps of all layers of a (probe, model) pair in one pass over the probe."""

from pathlib import Path

import numpy as np

from nemesis.dissection.extract import ImageSource, extract_layers
from nemesis.job import job
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    probe = open_probe(Path(files.probe).parent)
    source = ImageSource(np.arange(probe.count), probe.names, probe.images)
    extract_layers(
        params.model,
        dict(params.items()),
        files.weights,
        probe,
        source,
        snakemake.output.maps,
        (files.probe, files.weights),
    )
