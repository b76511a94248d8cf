"""Train the captioner: decoder and language model, from described regions or from annotated units."""

import logging
from pathlib import Path

from nemesis.devices import choose_device
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.milan.checkpoint import save_captioner
from nemesis.milan.encoder import DEFAULT_LAYERS, build_encoder
from nemesis.milan.training import PUBLISHED_COURSE, SHORT_COURSE, train_captioner
from nemesis.milan.training_data import study_annotations, study_regions
from nemesis.scoring.bleu import corpus_bleu

EMBEDDED = {"kind": "efficientnet_lite0"}  # sees the regions of the embedded probe

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    milan, captioner, device = params.milan, params.captioner, choose_device(params.device)
    spec = captioner.get("encoder", EMBEDDED) | {"size": milan["size"]}
    spec.setdefault("layers", list(DEFAULT_LAYERS.get(spec.get("arch", spec["kind"]), ())))
    encoder = build_encoder(spec, device=device)
    if captioner["kind"] == "regions":
        course = SHORT_COURSE
        probe = Path(files.probe).parent
        counts = (captioner["units"], captioner["units"] // 8, 3 * captioner["units"] // 16)
        made = (milan["exemplars"], milan["size"], params.seed, counts)
        lessons = study_regions(probe, files.descriptions, files.concepts, encoder, *made)
    else:
        course = PUBLISHED_COURSE
        root = Path(files.annotations).parent
        lessons = study_annotations(
            root, encoder, params.seed, images=captioner.get("images"), published=milan["published"]
        )
    logging.info("%d units, features %s", len(lessons.texts), lessons.features.shape)
    trained = train_captioner(
        lessons,
        spec,
        {"length": 15} | {name: milan[name] for name in ("strategy", "beam", "temperature")},
        corpus_bleu,
        course,
        params.seed,
        device,
        milan["published"],
        progress=lambda *values: logging.info("%s, epoch %d: loss %.4f, on validation %.4f", *values),
    )
    save_captioner(trained.captioner, output.captioner, output.card, source=captioner, **trained.facts)
    write_csv(trained.held_out, output.held_out)
