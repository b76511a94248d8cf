"""Train the captioner: decoder and language model, from described regions or from annotated units."""

import logging
from pathlib import Path

from nemesis.devices import choose_device
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.milan.checkpoint import save_captioner
from nemesis.milan.encoder import DEFAULT_LAYERS, build_encoder
from nemesis.milan.fitting import TrainingRun
from nemesis.milan.region_units import draw_region_units
from nemesis.milan.regions import load_regions
from nemesis.milan.training import PUBLISHED_SCHEDULE, SHORT_SCHEDULE, train_captioner
from nemesis.milan.training_data import encode_annotations, encode_regions
from nemesis.probes.probe import open_probe
from nemesis.scoring.bleu import corpus_bleu

EMBEDDED = {"kind": "efficientnet_lite0"}  # sees the regions of the embedded probe


def show(name, epoch, loss, value):
    """Log an epoch."""
    logging.info("%s, epoch %d: loss %.4f, on validation %.4f", name, epoch, loss, value)


with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    milan, captioner, device = params.milan, params.captioner, choose_device(params.device)
    spec = captioner.get("encoder", EMBEDDED) | {"size": milan["size"]}
    spec.setdefault("layers", list(DEFAULT_LAYERS.get(spec.get("arch", spec["kind"]), ())))
    encoder = build_encoder(spec, device=device)
    if captioner["kind"] == "regions":
        schedule = SHORT_SCHEDULE
        probe = open_probe(Path(files.probe).parent)
        regions = load_regions(probe, files.descriptions, files.concepts)
        counts = (captioner["units"], captioner["units"] // 8, 3 * captioner["units"] // 16)
        units = draw_region_units(regions, counts, milan["exemplars"], milan["size"], params.seed)
        data = encode_regions(probe, units, encoder)
    else:
        schedule = PUBLISHED_SCHEDULE
        root = Path(files.annotations).parent
        options = {"images": captioner.get("images"), "published": milan["published"]}
        data = encode_annotations(root, encoder, params.seed, **options)
    logging.info("%d units, features %s", len(data.texts), data.features.shape)
    settings = {"length": 15} | {name: milan[name] for name in ("strategy", "beam", "temperature")}
    run = TrainingRun(params.seed, milan["published"], show, device)
    trained = train_captioner(data, spec, settings, corpus_bleu, schedule, run)
    save_captioner(trained.captioner, output.captioner, output.card, source=captioner, **trained.facts)
    write_csv(trained.held_out, output.held_out)
