"""Dissect a layer on the clean probe: best labels (Eq. 2 to 4), the tally, and the null churn."""

from pathlib import Path

import pandas as pd

from nemesis.dissection.clean import dissect_clean, write_dissection
from nemesis.dissection.dissect import load_concepts
from nemesis.dissection.rerun import Recipe, counting_device, rerun_probe
from nemesis.dissection.stored import open_maps
from nemesis.job import job
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files, outputs = snakemake.params, snakemake.input, dict(snakemake.output.items())
    probe = open_probe(Path(files.probe).parent)
    settings = params.settings | {"seed": params.seed}
    run = (params.model, params.spec, Path(files.weights), settings["dtype"], params.batch, params.device)
    concepts, recipe = load_concepts(files.concepts, probe), Recipe(*run)
    maps = open_maps(Path(files.maps).parent, snakemake.wildcards.layer, rerun_probe(recipe, probe))
    thresholds = pd.read_csv(files.thresholds)["threshold"].to_numpy()
    found = dissect_clean(maps, thresholds, probe, concepts, settings, counting_device(maps, recipe))
    outputs["tally"] = Path(outputs["tally"]).parent
    write_dissection(found, concepts, outputs, params.settings, (files.maps, files.thresholds))
