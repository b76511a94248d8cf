# How every noisy image is made.
DRAWN = {
    "seed": config["seed"],
    "fraction": max(PLAN.noise.get("fractions", [0])),
    "storage": PLAN.noise.get("storage"),
}


rule extract_noisy:
    """Activation maps of all layers of a network for the images that noise corrupts."""
    input:
        probe=paths.PROBE,
        weights=paths.WEIGHTS,
    output:
        # Large and quickly made again: removed once dissected (--notemp keeps them).
        maps=temp(
            directory(paths.NOISY_MAPS_SHARD if PLAN.shards > 1 else paths.NOISY_MAPS)
        ),
    log:
        f"logs/extract_noisy/{{probe}}/{{model}}/{{kind}}-{{std}}-{{draw}}{PLAN.shard_suffix}.log",
    benchmark:
        f"benchmarks/extract_noisy/{{probe}}/{{model}}/{{kind}}-{{std}}-{{draw}}{PLAN.shard_suffix}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000),
        runtime=grow(240),
    params:
        **EXTRACTION,
        layers=lambda wildcards: list(PLAN.layers(wildcards.probe, wildcards.model)),
        noise=DRAWN,
        code=code_hash("extract_activations"),
    script:
        "../scripts/extract_activations.py"


rule gather_noisy:
    """The shards of a network's activation maps under noise as one store."""
    input:
        shards=[
            paths.fill(paths.NOISY_MAPS_SHARD, shard=shard)
            for shard in range(PLAN.shards)
        ],
    output:
        maps=temp(directory(paths.NOISY_MAPS)),
    log:
        "logs/gather_noisy/{probe}/{model}/{kind}-{std}-{draw}.log",
    benchmark:
        "benchmarks/gather_noisy/{probe}/{model}/{kind}-{std}-{draw}.tsv"
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


rule dissect_noise:
    """Labels of a layer's units under one kind and size of noise, for every draw and share of the images."""
    input:
        probe=paths.PROBE,
        concepts=paths.CONCEPTS,
        weights=paths.WEIGHTS,
        maps=paths.MAPS,
        clean=paths.DISSECTION,
        draws=[paths.fill(paths.NOISY_MAPS, draw=draw) for draw in PLAN.draws],
    output:
        dissection=paths.NOISY_DISSECTION,
        tops=paths.NOISY_TOPS,
    log:
        "logs/dissect_noise/{probe}/{model}/{layer}/{kind}-{std}.log",
    benchmark:
        "benchmarks/dissect_noise/{probe}/{model}/{layer}/{kind}-{std}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        gpu=GPU_IF_STREAMED,
        mem_mb=grow(4000, per_gb=20),
        runtime=grow(240, per_gb=4),
    params:
        **RUN,
        units=lambda wildcards: PLAN.units[place_of(wildcards)],
        fractions=PLAN.noise.get("fractions"),
        draws=PLAN.draws,
        noise=DRAWN,
        code=code_hash("dissect_noise"),
    script:
        "../scripts/dissect_noise.py"
