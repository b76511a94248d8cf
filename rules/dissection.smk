# On a probe without masks units are only extracted; milan describes them.
EXTRACTED = [
    path
    for extraction in EXTRACTIONS
    if not extraction.dissected
    for path in layer_paths(extraction, "clean/thresholds.csv")
]

for extraction in EXTRACTIONS:

    rule:
        name:
            f"extract_activations_{extraction.probe}_{extraction.model}"
        input:
            probe=f"results/probes/{extraction.probe}/probe.zarr/zarr.json",
            weights=f"results/models/{extraction.model}/weights.safetensors",
        output:
            maps=(
                [
                    temp(directory(path))
                    for path in layer_paths(extraction, "clean/shards/{shard}.zarr")
                ]
                if SHARD
                else layer_paths(extraction, "clean/activations.zarr/zarr.json")
            ),
        log:
            f"logs/extract_activations/{extraction.probe}/{extraction.model}/clean{SHARD}.log",
        benchmark:
            f"benchmarks/extract_activations/{extraction.probe}/{extraction.model}/clean{SHARD}.tsv"
        conda:
            "../envs/torch.yaml"
        threads: config["threads"]
        resources:
            gpu=GPU,
            mem_mb=grow(8000),
            runtime=grow(240),
        params:
            **EXTRACTION,
            model=extraction.model,
            spec=config["models"][extraction.model],
            layers=extraction.layers,
            shard=lambda wildcards: wildcards.get("shard", 0),
            code=code_hash("extract_activations"),
        script:
            "../scripts/extract_activations.py"


if SHARD:

    rule gather_activations:
        """The shards of a layer's activation maps as one store."""
        input:
            shards=[f"{CLEAN}/shards/{n}.zarr" for n in range(EXTRACTION["shards"])],
        output:
            maps=f"{CLEAN}/activations.zarr/zarr.json",
        log:
            "logs/gather_activations/{probe}/{model}/{layer}.log",
        benchmark:
            "benchmarks/gather_activations/{probe}/{model}/{layer}.tsv"
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
        maps="results/{probe}/{model}/{layer}/clean/activations.zarr/zarr.json",
    output:
        thresholds="results/{probe}/{model}/{layer}/clean/thresholds.csv",
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
        settings={key: config["dissection"][key] for key in ("quantile", "threshold")},
        code=code_hash("compute_thresholds"),
    script:
        "../scripts/compute_thresholds.py"


rule dissect:
    """Best labels of every unit on the clean probe (Eq. 2 to 4), and its null churn."""
    input:
        probe="results/probes/{probe}/probe.zarr/zarr.json",
        concepts="results/probes/{probe}/concepts.csv",
        maps="results/{probe}/{model}/{layer}/clean/activations.zarr/zarr.json",
        weights="results/models/{model}/weights.safetensors",
        thresholds="results/{probe}/{model}/{layer}/clean/thresholds.csv",
    output:
        dissection="results/{probe}/{model}/{layer}/clean/dissection.csv",
        tally="results/{probe}/{model}/{layer}/clean/tally.zarr/zarr.json",
        null_churn="results/{probe}/{model}/{layer}/clean/null_churn.csv",
    log:
        "logs/dissect/{probe}/{model}/{layer}.log",
    benchmark:
        "benchmarks/dissect/{probe}/{model}/{layer}.tsv"
    wildcard_constraints:
        probe=names_where("probes", lambda kind: kind != "folder"),
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
