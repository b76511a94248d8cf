"""Activation maps of all layers of a (probe, model) pair in one pass over the probe, or over what noise corrupts."""

from pathlib import Path

from nemesis.corruption.noisy import draw_noisy
from nemesis.devices import choose_batch, choose_device
from nemesis.dissection.extract import ExtractionSettings, extract_layers, probe_images, take_shard
from nemesis.files import sha256_json
from nemesis.job import job
from nemesis.models.registry import build_network
from nemesis.probes.probe import open_probe

RECORDED = ("model", "spec", "dtype", "max_store_gb", "batch", "device", "noise")  # what the maps of all layers follow

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    probe, noise = open_probe(Path(files.probe).parent), params.get("noise")
    source = probe_images(probe)
    if noise:
        source = draw_noisy(probe, wildcards.kind, float(wildcards.std), noise, int(wildcards.draw))
    device = choose_device(params.device)
    settings = ExtractionSettings(
        batch=choose_batch(params.batch, probe.size, device),
        device=device,
        dtype=params.dtype,
        max_store_gb=params.max_store_gb,
        counted=not noise,
        config_hash=sha256_json({name: params.get(name) for name in RECORDED}),
        inputs=(files.probe, files.weights),
        code=params.code,
    )
    extract_layers(
        build_network(params.model, params.spec, Path(files.weights)),
        params.layers,
        take_shard(source, int(params.shard), params.shards),
        snakemake.output.maps.removesuffix("/zarr.json"),
        settings,
    )
