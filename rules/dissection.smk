# Stored maps are counted by the processor; a streamed layer's network runs again.
GPU_IF_STREAMED = if_streamed(GPU) if GPU else 0
# What every job that runs a network again is told.
RUN = {
    "model": lambda wildcards: wildcards.model,
    "spec": lambda wildcards: config["models"][wildcards.model],
    "settings": config["dissection"],
    "batch": config["batch_size"],
    "device": config["device"],
    "seed": config["seed"],
}
# What every job that stores maps is told.
EXTRACTION = {
    "model": lambda wildcards: wildcards.model,
    "spec": lambda wildcards: config["models"][wildcards.model],
    "dtype": config["dissection"]["dtype"],
    "max_store_gb": config["dissection"]["max_store_gb"],
    "batch": config["batch_size"],
    "device": config["device"],
    "shard": lambda wildcards: int(wildcards.get("shard", 0)),
    "shards": PLAN.shards,
}


rule extract_activations:
    """Activation maps of all layers of a network on the clean probe, in one pass."""
    input:
        probe=paths.PROBE,
        weights=paths.WEIGHTS,
    output:
        maps=temp(directory(paths.MAPS_SHARD)) if PLAN.shards > 1 else paths.MAPS,
    log:
        f"logs/extract_activations/{{probe}}/{{model}}{PLAN.shard_suffix}.log",
    benchmark:
        f"benchmarks/extract_activations/{{probe}}/{{model}}{PLAN.shard_suffix}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000),
        runtime=grow(240),
    params:
        **EXTRACTION,
        layers=lambda wildcards: PLAN.layers_to_store(wildcards.probe, wildcards.model),
        code=code_hash("extract_activations"),
    script:
        "../scripts/extract_activations.py"


rule gather_activations:
    """The shards of a network's activation maps as one store."""
    input:
        shards=[
            paths.fill(paths.MAPS_SHARD, shard=shard) for shard in range(PLAN.shards)
        ],
    output:
        maps=paths.MAPS,
    log:
        "logs/gather_activations/{probe}/{model}.log",
    benchmark:
        "benchmarks/gather_activations/{probe}/{model}.tsv"
    wildcard_constraints:
        probe=user_files.match_if(PLAN.shards > 1),
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(60),
    params:
        code=code_hash("gather_activations"),
    script:
        "../scripts/gather_activations.py"


rule compute_thresholds:
    """Exact activation threshold of every unit (Eq. 1)."""
    input:
        maps=paths.MAPS,
    output:
        thresholds=paths.THRESHOLDS,
    log:
        "logs/compute_thresholds/{probe}/{model}/{layer}.log",
    benchmark:
        "benchmarks/compute_thresholds/{probe}/{model}/{layer}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(60, per_gb=1),
    params:
        settings=choose(config["dissection"], "quantile", "threshold"),
        code=code_hash("compute_thresholds"),
    script:
        "../scripts/compute_thresholds.py"


rule dissect:
    """Best labels of every unit on the clean probe (Eq. 2 to 4), and its null churn."""
    input:
        probe=paths.PROBE,
        concepts=paths.CONCEPTS,
        maps=paths.MAPS,
        weights=paths.WEIGHTS,
        thresholds=paths.THRESHOLDS,
    output:
        dissection=paths.DISSECTION,
        tally=paths.TALLY,
        null_churn=paths.NULL_CHURN,
    log:
        "logs/dissect/{probe}/{model}/{layer}.log",
    benchmark:
        "benchmarks/dissect/{probe}/{model}/{layer}.tsv"
    wildcard_constraints:
        probe=user_files.match_other_kinds(config["probes"], "folder"),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=GPU_IF_STREAMED,
        mem_mb=grow(4000, per_gb=20),
        runtime=grow(120, per_gb=2),
    params:
        **RUN,
        code=code_hash("dissect"),
    script:
        "../scripts/dissect.py"
