# How descriptions are made.
DECODING = {
    "milan": choose(MILAN, "strategy", "beam", "temperature", "published"),
    "batch": config["batch_size"],
    "device": config["device"],
    "seed": config["seed"],
}


rule describe_milan:
    """A layer's clean units in words, and the same units on resampled probes."""
    input:
        **PLAN.captioner,
        exemplars=[
            paths.fill(paths.EXEMPLARS, corruption="clean"),
            *([paths.NULL_EXEMPLARS] if PLAN.has_null else []),
        ],
    output:
        descriptions=[
            paths.fill(paths.DESCRIPTIONS, corruption="clean"),
            *([paths.NULL_DESCRIPTIONS] if PLAN.has_null else []),
        ],
    log:
        "logs/describe_milan/{probe}/{model}/{layer}.log",
    benchmark:
        "benchmarks/describe_milan/{probe}/{model}/{layer}.tsv"
    conda:
        "../envs/milan.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000),
        runtime=grow(240),
    params:
        **DECODING,
        code=code_hash("describe_milan"),
    script:
        "../scripts/describe_milan.py"


rule describe_corrupted:
    """A layer's units in words under one noise or attack."""
    input:
        **PLAN.captioner,
        exemplars=[paths.EXEMPLARS],
    output:
        descriptions=[paths.DESCRIPTIONS],
    log:
        "logs/describe_corrupted/{probe}/{model}/{layer}/{corruption}.log",
    benchmark:
        "benchmarks/describe_corrupted/{probe}/{model}/{layer}/{corruption}.tsv"
    conda:
        "../envs/milan.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000),
        runtime=grow(240),
    params:
        **DECODING,
        code=code_hash("describe_milan"),
    script:
        "../scripts/describe_milan.py"


rule score_milan:
    """F1-BERT of a network's descriptions after each corruption with the clean ones, and which are manipulated."""
    input:
        unpack(
            lambda wildcards: gathered.compared_descriptions(
                PLAN, wildcards.probe, wildcards.model
            ).paths
        ),
        **JUDGE,
    output:
        scores=PLAN.of_run(paths.SCORES),
        facts=PLAN.of_run(paths.SCORE_FACTS),
    log:
        "logs/score_milan/{probe}/{model}.log",
    benchmark:
        "benchmarks/score_milan/{probe}/{model}.tsv"
    conda:
        "../envs/milan.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(4000),
        runtime=grow(120),
    params:
        places=lambda wildcards: gathered.compared_descriptions(
            PLAN, wildcards.probe, wildcards.model
        ).keys,
        scorer=MILAN.get("scorer"),
        device=config["device"],
        code=code_hash("score_milan"),
    script:
        "../scripts/score_milan.py"
