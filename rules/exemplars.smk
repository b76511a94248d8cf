# What every job that makes exemplars is told.
EXEMPLARS = {
    "milan": choose(
        MILAN, "exemplars", "quantile", "size", "published", "null_replicates"
    ),
    "seed": config["seed"],
}
POISONED_EXEMPLARS = {
    "designed": choose(MILAN.get("designed", {}), "images", "counts", "storage"),
    "device": config["device"],
}


rule compute_exemplars:
    """Exemplars of a layer's described units, and of the same units on resampled probes."""
    input:
        probe=paths.PROBE,
        card=paths.CARD,
        maps=paths.MAPS,
        thresholds=paths.THRESHOLDS,
    output:
        exemplars=paths.fill(paths.EXEMPLARS, corruption="clean"),
        null=paths.NULL_EXEMPLARS if PLAN.has_null else [],
    log:
        "logs/compute_exemplars/{probe}/{model}/{layer}.log",
    benchmark:
        "benchmarks/compute_exemplars/{probe}/{model}/{layer}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(60, per_gb=1),
    params:
        **EXEMPLARS,
        units=MILAN.get("units"),
        code=code_hash("compute_exemplars"),
    script:
        "../scripts/compute_exemplars.py"


rule compute_noisy_exemplars:
    """Exemplars of a layer's described units under one kind and size of noise."""
    input:
        probe=paths.PROBE,
        card=paths.CARD,
        maps=paths.MAPS,
        thresholds=paths.THRESHOLDS,
        draws=[paths.fill(paths.NOISY_MAPS, draw=draw) for draw in PLAN.draws],
    output:
        exemplars=paths.fill(paths.EXEMPLARS, corruption="noise/{kind}-{std}"),
    log:
        "logs/compute_noisy_exemplars/{probe}/{model}/{layer}/{kind}-{std}.log",
    benchmark:
        "benchmarks/compute_noisy_exemplars/{probe}/{model}/{layer}/{kind}-{std}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(60, per_gb=1),
    params:
        **EXEMPLARS,
        units=MILAN.get("units"),
        fractions=MILAN.get("noise", {}).get("fractions"),
        storage=PLAN.noise.get("storage"),
        places={"draws": PLAN.draws},
        code=code_hash("compute_noisy_exemplars"),
    script:
        "../scripts/compute_noisy_exemplars.py"


rule poison_exemplars:
    """Poisoned images of described units (Eq. 8 and 9), and the maps that they give."""
    input:
        probe=paths.PROBE,
        weights=paths.WEIGHTS,
        maps=paths.MAPS,
        exemplars=paths.fill(paths.EXEMPLARS, corruption="clean"),
    output:
        poison=PLAN.for_each_eps(paths.EXEMPLAR_POISON, "milan"),
        maps=PLAN.for_each_eps(paths.EXEMPLAR_MAPS, "milan"),
    log:
        "logs/poison_exemplars/{probe}/{model}/{layer}/{method}-{mode}.log",
    benchmark:
        "benchmarks/poison_exemplars/{probe}/{model}/{layer}/{method}-{mode}.tsv"
    conda:
        "../envs/attack.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000),
        runtime=grow(720),
    params:
        **RUN,
        designed={
            name: value
            for name, value in MILAN.get("designed", {}).items()
            if name != "counts"
        },
        code=code_hash("poison_exemplars"),
    script:
        "../scripts/poison_exemplars.py"


rule compute_poisoned_exemplars:
    """Exemplars of the attacked units, the more of their images are poisoned."""
    input:
        probe=paths.PROBE,
        card=paths.CARD,
        maps=paths.MAPS,
        exemplars=paths.fill(paths.EXEMPLARS, corruption="clean"),
        poison=PLAN.for_each_eps(paths.EXEMPLAR_POISON, "milan"),
        poisoned_maps=PLAN.for_each_eps(paths.EXEMPLAR_MAPS, "milan"),
    output:
        exemplars=PLAN.for_each_eps(
            paths.fill(paths.EXEMPLARS, corruption=paths.EXEMPLAR_DESIGN), "milan"
        ),
    log:
        "logs/compute_poisoned_exemplars/{probe}/{model}/{layer}/{method}-{mode}.log",
    benchmark:
        "benchmarks/compute_poisoned_exemplars/{probe}/{model}/{layer}/{method}-{mode}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(60),
    params:
        **EXEMPLARS,
        **POISONED_EXEMPLARS,
        code=code_hash("compute_poisoned_exemplars"),
    script:
        "../scripts/compute_poisoned_exemplars.py"


rule predict_poisoned:
    """What the network says of the probe, the more of its images are poisoned (Figure 5)."""
    input:
        probe=paths.PROBE,
        weights=paths.WEIGHTS,
        card=paths.CARD,
        maps=paths.MAPS,
        exemplars=paths.fill(paths.EXEMPLARS, corruption="clean"),
        poison=PLAN.for_each_eps(paths.EXEMPLAR_POISON, "milan"),
    output:
        predictions=PLAN.for_each_eps(paths.PREDICTIONS, "milan"),
    log:
        "logs/predict_poisoned/{probe}/{model}/{layer}/{method}-{mode}.log",
    benchmark:
        "benchmarks/predict_poisoned/{probe}/{model}/{layer}/{method}-{mode}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000),
        runtime=grow(240),
    params:
        **RUN,
        designed=POISONED_EXEMPLARS["designed"],
        code=code_hash("predict_poisoned"),
    script:
        "../scripts/predict_poisoned.py"
