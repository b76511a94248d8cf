"""The F1 up to which two descriptions count as different, with its error rates on labelled pairs."""

from nemesis.devices import choose_device
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.scoring.bertscore import open_scorer
from nemesis.scoring.calibrate import calibrate, choose_pairs, write_threshold

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    pairs, source = choose_pairs(params.threshold, files.pairs, params.seed)
    scorer = open_scorer(params.scorer, choose_device(params.device)) if len(pairs) else None
    pairs, found = calibrate(params.threshold, pairs, scorer)
    write_csv(pairs, output.pairs)
    write_threshold(found, source, scorer and scorer.facts, output.threshold)
