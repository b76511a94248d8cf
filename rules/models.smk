rule prepare_model:
    """Bring a network's weights into one format, and describe it on a card."""
    input:
        files=find_model_files,
    output:
        weights="results/models/{model}/weights.safetensors",
        card="results/models/{model}/card.json",
    log:
        "logs/prepare_model/{model}.log",
    benchmark:
        "benchmarks/prepare_model/{model}.tsv"
    wildcard_constraints:
        model=names_where("models", lambda kind: kind != "tinyvgg"),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(15),
    params:
        spec=model_spec,
        sizes=shown_sizes,
        code=code_hash("prepare_model"),
    script:
        "../scripts/prepare_model.py"


rule train_tinyvgg:
    """Train the small contrast network on a probe (multi-label)."""
    input:
        probe=lambda wildcards: "results/probes/{}/probe.zarr/zarr.json".format(
            config["models"][wildcards.model]["probe"]
        ),
    output:
        weights="results/models/{model}/weights.safetensors",
        card="results/models/{model}/card.json",
    log:
        "logs/train_tinyvgg/{model}.log",
    benchmark:
        "benchmarks/train_tinyvgg/{model}.tsv"
    wildcard_constraints:
        model=names_where("models", lambda kind: kind == "tinyvgg"),
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
