"""Compare descriptions after each corruption with the clean ones: F1-BERT and manipulated or not."""

from nemesis.devices import choose_device
from nemesis.files import write_csv
from nemesis.job import job
from nemesis.plan.files import pair_files
from nemesis.scoring.bertscore import open_scorer
from nemesis.scoring.calibrate import check_scorer, list_texts, read_pairs, read_threshold, write_facts
from nemesis.scoring.descriptions import join_scores, read_descriptions, score_descriptions

with job(snakemake.log[0], snakemake.threads):
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    threshold = read_threshold(files.threshold)
    scorer = open_scorer(params.scorer, choose_device(params.device))
    check_scorer(threshold, scorer.facts, files.threshold)
    texts = list_texts(read_pairs(files.pairs))
    found = pair_files(files, params.places)
    clean = {place: read_descriptions(path) for place, path in found["clean"].items()}
    scores = {}
    for (*place, corruption), path in found["corrupted"].items():
        before, names = clean[tuple(place)], (found["clean"][tuple(place)], path)
        level, after = threshold["threshold"], read_descriptions(path)
        scores[place[-1], corruption] = score_descriptions(before, after, scorer, level, idf_from=texts, names=names)
    write_csv(join_scores(scores), output.scores)
    write_facts(threshold, scorer.facts, output.facts)
