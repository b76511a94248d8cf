rule prepare_model:
    """Bring a network's weights into one format, and describe it on a card."""
    input:
        files=lambda wildcards: user_files.find_model_files(PLAN, wildcards.model),
    output:
        weights=paths.WEIGHTS,
        card=paths.CARD,
    log:
        "logs/prepare_model/{model}.log",
    benchmark:
        "benchmarks/prepare_model/{model}.tsv"
    wildcard_constraints:
        model=user_files.match_other_kinds(config["models"], "tinyvgg"),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(15),
    params:
        spec=lambda wildcards: user_files.describe_model(PLAN, wildcards.model),
        sizes=lambda wildcards: user_files.shown_sizes(PLAN, wildcards.model),
        code=code_hash("prepare_model"),
    script:
        "../scripts/prepare_model.py"


rule train_tinyvgg:
    """Train the small contrast network on a probe (multi-label)."""
    input:
        probe=lambda wildcards: paths.fill(
            paths.PROBE, probe=config["models"][wildcards.model]["probe"]
        ),
    output:
        weights=paths.WEIGHTS,
        card=paths.CARD,
    log:
        "logs/train_tinyvgg/{model}.log",
    benchmark:
        "benchmarks/train_tinyvgg/{model}.tsv"
    wildcard_constraints:
        model=user_files.match_kinds(config["models"], "tinyvgg"),
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        mem_mb=grow(4000),
        runtime=grow(30),
    params:
        spec=lambda wildcards: config["models"][wildcards.model],
        seed=config["seed"],
        code=code_hash("train_tinyvgg"),
    script:
        "../scripts/train_tinyvgg.py"
