"""Compare descriptions after a corruption with the clean ones: F1-BERT and manipulated or not."""

from nemesis.devices import choose_device
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.scoring.bertscore import open_scorer
from nemesis.scoring.calibrate import check_scorer, list_texts, read_pairs, read_threshold, write_facts
from nemesis.scoring.descriptions import read_descriptions, score_descriptions

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    threshold = read_threshold(files.threshold)
    scorer = open_scorer(params.scorer, choose_device(params.device))
    check_scorer(threshold, scorer.facts, files.threshold)
    texts = list_texts(read_pairs(files.pairs))
    clean = [read_descriptions(path) for path in files.clean]
    for number, path in enumerate(files.corrupted):  # every setting lists all layers, in the order of `clean`
        layer = number % len(clean)
        scores = score_descriptions(
            clean[layer],
            read_descriptions(path),
            scorer,
            threshold["threshold"],
            idf_from=texts,
            names=(files.clean[layer], path),
        )
        write_csv(scores, output.scores[number])
        write_facts(threshold, scorer.facts, output.facts[number])
