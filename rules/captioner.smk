MILAN = PLAN.milan
CAPTIONER = MILAN.get("captioner", {})
# The F1 up to which descriptions count as different, and the pairs behind it.
JUDGE = {"threshold": paths.THRESHOLD, "pairs": paths.PAIRS}


rule train_milan:
    """Train a captioner on described regions, or on annotated units."""
    input:
        **user_files.find_captioner_data(PLAN),
    output:
        captioner=paths.CAPTIONER,
        card=paths.CAPTIONER_CARD,
        held_out=paths.HELD_OUT,
    log:
        "logs/train_milan/{captioner}.log",
    benchmark:
        "benchmarks/train_milan/{captioner}.tsv"
    wildcard_constraints:
        captioner="regions|annotations",
    conda:
        "../envs/milan.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000),
        runtime=grow(240),
    params:
        captioner=CAPTIONER,
        milan=choose(
            MILAN,
            "exemplars",
            "size",
            "strategy",
            "beam",
            "temperature",
            "published",
        ),
        device=config["device"],
        seed=config["seed"],
        code=code_hash("train_milan"),
    script:
        "../scripts/train_milan.py"


rule prepare_captioner:
    """Bring a published checkpoint into one format, without executing what is in it."""
    input:
        checkpoint=user_files.find_checkpoint(PLAN),
    output:
        captioner=paths.CAPTIONER,
        card=paths.CAPTIONER_CARD,
    log:
        "logs/prepare_captioner/{captioner}.log",
    benchmark:
        "benchmarks/prepare_captioner/{captioner}.tsv"
    wildcard_constraints:
        captioner="(?!regions|annotations)[a-z]+",
    retries: 0
    conda:
        "../envs/milan.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(240),
    params:
        captioner=CAPTIONER,
        # Not an output: Snakemake would delete it before a retry.
        archive=paths.fill(
            paths.CAPTIONER_ARCHIVE, published=CAPTIONER.get("name", "none")
        ),
        code=code_hash("prepare_captioner"),
    script:
        "../scripts/prepare_captioner.py"


rule calibrate_threshold:
    """The F1 at which false positives equal false negatives, or the config's threshold."""
    input:
        pairs=user_files.find_pairs(PLAN),
    output:
        **JUDGE,
    log:
        "logs/calibrate_threshold.log",
    benchmark:
        "benchmarks/calibrate_threshold.tsv"
    conda:
        "../envs/milan.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(4000),
        runtime=grow(60),
    params:
        threshold=MILAN.get("threshold"),
        scorer=MILAN.get("scorer"),
        device=config["device"],
        seed=config["seed"],
        code=code_hash("calibrate_threshold"),
    script:
        "../scripts/calibrate_threshold.py"


rule score_captioner:
    """Descriptions of held-out units against the true ones, and against shuffled ones."""
    input:
        **JUDGE,
        held_out=paths.HELD_OUT,
    output:
        quality=paths.QUALITY,
    log:
        "logs/score_captioner/{captioner}.log",
    benchmark:
        "benchmarks/score_captioner/{captioner}.tsv"
    conda:
        "../envs/milan.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(4000),
        runtime=grow(60),
    params:
        scorer=MILAN.get("scorer"),
        device=config["device"],
        seed=config["seed"],
        code=code_hash("score_captioner"),
    script:
        "../scripts/score_captioner.py"
