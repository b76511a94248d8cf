"""What the network itself says of the probe, the more of its images are poisoned."""

from pathlib import Path

from nemesis.corruption.classes import count_classes
from nemesis.corruption.layers import prepare_reader
from nemesis.corruption.poisoned import open_poison
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.milan.attack import limit_counts, open_described
from nemesis.milan.predictions import make_check, predict_poisoned
from nemesis.models.card import read_classes

with job(snakemake.log[0], snakemake.threads):
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    layer = open_described(files, params, wildcards.layer)
    concepts = read_classes(files.card) if params.spec.get("probe") == wildcards.probe else None
    counts = limit_counts(params.designed["counts"], params.designed["images"])
    reader, batch = prepare_reader(layer, files, params, pad=True)
    check = make_check(layer.probe, concepts, count_classes(reader, layer.probe.images(0, 1)[0]))
    for store, table in zip(files.poison, snakemake.output.predictions, strict=True):
        poison = open_poison(Path(store).parent)
        found = predict_poisoned(poison, reader, layer.probe, params.designed["storage"], counts, batch, check)
        write_csv(found, table)
