"""Describe the units of several exemplars.zarr in words."""

from pathlib import Path

from nemesis.devices import choose_device
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.milan.checkpoint import load_captioner
from nemesis.milan.describe import Search, describe
from nemesis.milan.encoder import build_encoder
from nemesis.milan.exemplar_store import open_exemplars

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    device = choose_device(params.device)
    captioner = load_captioner(files.captioner, files.card)
    encoder = build_encoder(captioner.encoder, captioner.encoder_state, device, params.batch)
    search = Search(**{name: params.milan[name] for name in ("strategy", "beam", "temperature", "published")})
    for store, target in zip(files.exemplars, snakemake.output.descriptions, strict=True):
        exemplars = open_exemplars(Path(store).parent)
        write_csv(describe(exemplars, captioner, encoder, search, seed=params.seed), target)
