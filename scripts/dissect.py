"""Dissect a layer on the clean probe: best labels (Eq. 2 to 4), the tally, and the null churn."""

from pathlib import Path

import pandas as pd

from nemesis.dissection.again import counting_device, read_recipe, rerun_probe
from nemesis.dissection.dissect import load_concepts
from nemesis.dissection.layers import dissect_clean, write_dissection
from nemesis.dissection.stored import open_maps
from nemesis.job import job
from nemesis.probes.probe import open_probe

with job(snakemake.log[0], snakemake.threads):
    params, files, outputs = snakemake.params, snakemake.input, dict(snakemake.output.items())
    probe = open_probe(Path(files.probe).parent)
    concepts, recipe = load_concepts(files.concepts, probe), read_recipe(params, files)
    maps = open_maps(Path(files.maps).parent, snakemake.wildcards.layer, rerun_probe(recipe, probe))
    thresholds = pd.read_csv(files.thresholds)["threshold"].to_numpy()
    settings = params.settings | {"seed": params.seed}
    found = dissect_clean(maps, thresholds, probe, concepts, settings, counting_device(maps, recipe))
    outputs["tally"] = Path(outputs["tally"]).parent
    write_dissection(found, concepts, outputs, params.settings, (files.maps, files.thresholds))
