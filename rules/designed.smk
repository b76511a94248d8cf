PLANNED = ("units", "targets", "objective", "max_fraction", "steps")
SHARDS = DESIGNED.get("shards", 1)
# Outcomes that are known before any bisection: whole eps of untargeted attacks, stored without loss.
KNOWN_EPS = [
    int(eps)
    for eps in DESIGNED.get("eps", ())
    if eps == int(eps)
    and "untargeted" in DESIGNED["modes"]
    and DESIGNED["storage"] == "lossless"
]


rule poison_images:
    """Poisoned images of the attacked units (Eq. 9), many units in a batch."""
    input:
        unpack(find_attack_files),
    output:
        poison=for_each_eps(
            f"{SETTING}/poison.zarr/zarr.json"
            if SHARDS == 1
            else f"{SETTING}/shards/{{shard}}.zarr/zarr.json"
        ),
    log:
        f"logs/poison_images/{ATTACK}{'' if SHARDS == 1 else '-{shard}'}.log",
    benchmark:
        f"benchmarks/poison_images/{ATTACK}{'' if SHARDS == 1 else '-{shard}'}.tsv"
    conda:
        "../envs/attack.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(720, per_gb=4),
    params:
        **RUN,
        units=choose_units,
        designed=attack_settings(*PLANNED, "eps", "storage", "compare_storage"),
        shard=lambda wildcards: wildcards.get("shard", 0),
        shards=SHARDS,
        code=code_hash("poison_images"),
    script:
        "../scripts/poison_images.py"


if SHARDS > 1:

    rule gather_poison:
        """The shards of an attack as one poison.zarr."""
        input:
            shards=[f"{SETTING}/shards/{n}.zarr/zarr.json" for n in range(SHARDS)],
        output:
            poison=f"{SETTING}/poison.zarr/zarr.json",
        log:
            f"logs/gather_poison/{ATTACK}-{{eps}}.log",
        benchmark:
            f"benchmarks/gather_poison/{ATTACK}-{{eps}}.tsv"
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
        unpack(find_attack_files),
        poison=for_each_eps(f"{SETTING}/poison.zarr/zarr.json"),
    output:
        dissection=for_each_eps(f"{SETTING}/dissection.csv"),
        budget=for_each_eps(f"{SETTING}/budget.csv"),
        maps=for_each_eps(f"{SETTING}/activations.zarr/zarr.json"),
        broden=(
            [directory(path) for path in for_each_eps(f"{SETTING}/broden")]
            if DESIGNED.get("export")
            else []
        ),
    log:
        f"logs/dissect_designed/{ATTACK}.log",
    benchmark:
        f"benchmarks/dissect_designed/{ATTACK}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(240, per_gb=2),
    params:
        **RUN,
        storage=DESIGNED.get("storage"),
        budgets=DESIGNED.get("budgets"),
        source=find_probe_index,
        code=code_hash("dissect_designed"),
    script:
        "../scripts/dissect_designed.py"


rule compare_storage:
    """Labels under each way to store the poisoned images, and the clean ones."""
    input:
        unpack(find_attack_files),
        poison=f"{SETTING}/poison.zarr/zarr.json",
    output:
        storage=f"{SETTING}/storage.csv",
    log:
        f"logs/compare_storage/{ATTACK}-{{eps}}.log",
    benchmark:
        f"benchmarks/compare_storage/{ATTACK}-{{eps}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(240, per_gb=2),
    params:
        **RUN,
        storages=DESIGNED.get("compare_storage", {}).get("kinds"),
        code=code_hash("compare_storage"),
    script:
        "../scripts/compare_storage.py"


rule measure_collateral:
    """Other units and predictions that the poisoned images change (Figure 5's question)."""
    input:
        unpack(find_attack_files),
        poison=f"{SETTING}/poison.zarr/zarr.json",
        card="results/models/{model}/card.json",
    output:
        collateral=f"{SETTING}/collateral.csv",
    log:
        f"logs/measure_collateral/{ATTACK}-{{eps}}.log",
    benchmark:
        f"benchmarks/measure_collateral/{ATTACK}-{{eps}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=grow(8000, per_gb=20),
        runtime=grow(240, per_gb=2),
    params:
        **RUN,
        storage=DESIGNED.get("storage"),
        code=code_hash("measure_collateral"),
    script:
        "../scripts/measure_collateral.py"


rule minimum_epsilon:
    """The smallest eps that changes each unit's label (Eq. 6)."""
    input:
        unpack(find_attack_files),
        known=[
            f"{SETTING}/dissection.csv".replace("{eps}", format_eps(eps)).replace(
                "{mode}", "untargeted"
            )
            for eps in KNOWN_EPS
        ],
    output:
        table="results/{probe}/{model}/{layer}/designed/minimum_epsilon-{method}-{masks}.csv",
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
        units=choose_units,
        designed=attack_settings(*PLANNED),
        known=KNOWN_EPS,
        highest=DESIGNED.get("minimum_epsilon", {}).get("highest"),
        code=code_hash("minimum_epsilon"),
    script:
        "../scripts/minimum_epsilon.py"
