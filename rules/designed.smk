# What an attack is planned with.
ATTACK = ("units", "targets", "objective", "max_fraction", "steps")
# The clean dissection of a layer, and what is behind it.
ATTACKED = {
    "probe": paths.PROBE,
    "concepts": paths.CONCEPTS,
    "weights": paths.WEIGHTS,
    "maps": paths.MAPS,
    "clean": paths.DISSECTION,
    "thresholds": paths.THRESHOLDS,
    "tally": paths.TALLY,
}


rule poison_images:
    """Poisoned images of the attacked units (Eq. 9), many units in a batch."""
    input:
        **ATTACKED,
    output:
        poison=PLAN.for_each_eps(
            paths.POISON_SHARD if PLAN.attack_shards > 1 else paths.POISON
        ),
    log:
        f"logs/poison_images/{{probe}}/{{model}}/{{layer}}/{{method}}-{{mode}}-{{masks}}{PLAN.attack_shard_suffix}.log",
    benchmark:
        f"benchmarks/poison_images/{{probe}}/{{model}}/{{layer}}/{{method}}-{{mode}}-{{masks}}{PLAN.attack_shard_suffix}.tsv"
    conda:
        "../envs/attack.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(720, per_gb=4),
    params:
        **RUN,
        units=lambda wildcards: PLAN.units[place_of(wildcards)],
        designed=choose(PLAN.designed, *ATTACK, "eps", "storage", "compare_storage"),
        shard=lambda wildcards: int(wildcards.get("shard", 0)),
        shards=PLAN.attack_shards,
        code=code_hash("poison_images"),
    script:
        "../scripts/poison_images.py"


rule gather_poison:
    """The shards of an attack as one poison.zarr."""
    input:
        shards=[
            paths.fill(paths.POISON_SHARD, shard=shard)
            for shard in range(PLAN.attack_shards)
        ],
    output:
        poison=paths.POISON,
    log:
        "logs/gather_poison/{probe}/{model}/{layer}/{method}-{eps}-{mode}-{masks}.log",
    benchmark:
        "benchmarks/gather_poison/{probe}/{model}/{layer}/{method}-{eps}-{mode}-{masks}.tsv"
    wildcard_constraints:
        probe=user_files.match_if(PLAN.attack_shards > 1),
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(60),
    params:
        code=code_hash("gather_poison"),
    script:
        "../scripts/gather_poison.py"


rule dissect_designed:
    """Labels of the attacked units on their corrupted probe, found incrementally."""
    input:
        **ATTACKED,
        poison=PLAN.for_each_eps(paths.POISON),
    output:
        dissection=PLAN.for_each_eps(paths.DESIGNED_DISSECTION),
        budget=PLAN.for_each_eps(paths.BUDGET),
        maps=PLAN.for_each_eps(paths.POISONED_MAPS),
        broden=(
            [directory(path) for path in PLAN.for_each_eps(paths.EXPORTED)]
            if PLAN.designed.get("export")
            else []
        ),
    log:
        "logs/dissect_designed/{probe}/{model}/{layer}/{method}-{mode}-{masks}.log",
    benchmark:
        "benchmarks/dissect_designed/{probe}/{model}/{layer}/{method}-{mode}-{masks}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(240, per_gb=2),
    params:
        **RUN,
        storage=PLAN.designed.get("storage"),
        budgets=PLAN.designed.get("budgets"),
        source=lambda wildcards: user_files.find_probe_index(PLAN, wildcards.probe),
        code=code_hash("dissect_designed"),
    script:
        "../scripts/dissect_designed.py"


rule compare_storage:
    """Labels under each way to store the poisoned images, and the clean ones."""
    input:
        **ATTACKED,
        poison=paths.POISON,
    output:
        storage=paths.STORAGE,
    log:
        "logs/compare_storage/{probe}/{model}/{layer}/{method}-{eps}-{mode}-{masks}.log",
    benchmark:
        "benchmarks/compare_storage/{probe}/{model}/{layer}/{method}-{eps}-{mode}-{masks}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(240, per_gb=2),
    params:
        **RUN,
        storages=PLAN.designed.get("compare_storage", {}).get("kinds"),
        code=code_hash("compare_storage"),
    script:
        "../scripts/compare_storage.py"


rule measure_collateral:
    """Other units and predictions that the poisoned images change (Figure 5's question)."""
    input:
        **ATTACKED,
        poison=paths.POISON,
        card=paths.CARD,
    output:
        collateral=paths.COLLATERAL,
    log:
        "logs/measure_collateral/{probe}/{model}/{layer}/{method}-{eps}-{mode}-{masks}.log",
    benchmark:
        "benchmarks/measure_collateral/{probe}/{model}/{layer}/{method}-{eps}-{mode}-{masks}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(240, per_gb=2),
    params:
        **RUN,
        storage=PLAN.designed.get("storage"),
        code=code_hash("measure_collateral"),
    script:
        "../scripts/measure_collateral.py"


rule minimum_epsilon:
    """The smallest eps that changes each unit's label (Eq. 6)."""
    input:
        **ATTACKED,
        known=[
            paths.fill(paths.DESIGNED_DISSECTION, eps=eps, mode="untargeted")
            for eps in PLAN.known_eps
        ],
    output:
        table=paths.MINIMUM_EPSILON,
    log:
        "logs/minimum_epsilon/{probe}/{model}/{layer}/{method}-{masks}.log",
    benchmark:
        "benchmarks/minimum_epsilon/{probe}/{model}/{layer}/{method}-{masks}.tsv"
    conda:
        "../envs/attack.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(720, per_gb=4),
    params:
        **RUN,
        units=lambda wildcards: PLAN.units[place_of(wildcards)],
        designed=choose(PLAN.designed, *ATTACK),
        known=PLAN.known_eps,
        highest=PLAN.designed.get("minimum_epsilon", {}).get("highest"),
        code=code_hash("minimum_epsilon"),
    script:
        "../scripts/minimum_epsilon.py"
