"""Activation maps of all layers of a (probe, model) pair, clean or under noise, in one pass."""

from pathlib import Path

import numpy as np

from nemesis.corruption.noise import draw_seed
from nemesis.corruption.noisy import noisy_images
from nemesis.devices import choose_batch, choose_device
from nemesis.dissection.extract import ImageSource, extract_activations
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.models.network import LayerReader
from nemesis.models.registry import build_network
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params = snakemake.params
    device = choose_device(params.device)
    probe = open_probe(Path(snakemake.input.probe).parent)
    network = build_network(params.model, params.spec, Path(snakemake.input.weights))
    if params.noise is None:
        source = ImageSource(np.arange(probe.count), probe.names, probe.images)
    else:
        seed = draw_seed(params.noise["seed"], int(snakemake.wildcards.draw))
        source = noisy_images(
            probe,
            snakemake.wildcards.kind,
            float(snakemake.wildcards.std),
            params.noise["fraction"],
            seed,
            params.noise["storage"],
        )
    stores = [Path(path.removesuffix("/zarr.json")) for path in snakemake.output.maps]
    batch = choose_batch(params.batch, probe.images(0, 1).shape[2:], device)
    with LayerReader(network, params.layers, device, pad_to=batch) as reader:
        extract_activations(
            reader.read,
            source,
            dict(zip(params.layers, stores, strict=True)),
            params.dtype,
            batch,
            device,
            sha256_json(dict(params.items())),
            (snakemake.input.probe, snakemake.input.weights),
        )
