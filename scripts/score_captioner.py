"""BERTScore and BLEU of a captioner on held-out units, beside a shuffled assignment."""

from nemesis.devices import choose_device
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.scoring.bertscore import open_scorer
from nemesis.scoring.calibrate import check_scorer, list_texts, read_pairs, read_threshold
from nemesis.scoring.captioner import measure_captioner, read_held_out

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    table, references = read_held_out(files.held_out)
    threshold = read_threshold(files.threshold)
    scorer = open_scorer(params.scorer, choose_device(params.device))
    check_scorer(threshold, scorer.facts, files.threshold)
    texts = list_texts(read_pairs(files.pairs))
    quality = measure_captioner(table, references, scorer, threshold["threshold"], params.seed, texts)
    write_csv(quality, snakemake.output.quality)
