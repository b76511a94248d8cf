NOISY = "results/{probe}/{model}/{layer}/noise/{kind}-{std}"
DRAWN = {
    "seed": config["seed"],
    "fraction": max(config["noise"]["fractions"]) if NOISES else None,
    "storage": config["noise"]["storage"] if NOISES else None,
}

for extraction in EXTRACTIONS if NOISES else []:

    rule:
        name:
            f"extract_noisy_{extraction.probe}_{extraction.model}"
        input:
            probe=f"results/probes/{extraction.probe}/probe.zarr/zarr.json",
            weights=f"results/models/{extraction.model}/weights.safetensors",
        output:
            # Large and quickly made again: removed once dissected (--notemp keeps them).
            maps=[
                temp(directory(path))
                for path in layer_paths(
                    extraction,
                    (
                        "noise/{kind}-{std}/shards/{draw}-{shard}.zarr"
                        if SHARD
                        else "noise/{kind}-{std}/activations-{draw}.zarr"
                    ),
                )
            ],
        log:
            f"logs/extract_noisy/{extraction.probe}/{extraction.model}/{{kind}}-{{std}}-{{draw}}{SHARD}.log",
        benchmark:
            f"benchmarks/extract_noisy/{extraction.probe}/{extraction.model}/{{kind}}-{{std}}-{{draw}}{SHARD}.tsv"
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
            noise=DRAWN,
            code=code_hash("extract_noisy"),
        script:
            "../scripts/extract_noisy.py"


if SHARD:

    rule gather_noisy:
        """The shards of a layer's activation maps under noise as one store."""
        input:
            shards=[
                f"{NOISY}/shards/{{draw}}-{n}.zarr"
                for n in range(EXTRACTION["shards"])
            ],
        output:
            maps=temp(directory(f"{NOISY}/activations-{{draw}}.zarr")),
        log:
            "logs/gather_noisy/{probe}/{model}/{layer}/{kind}-{std}-{draw}.log",
        benchmark:
            "benchmarks/gather_noisy/{probe}/{model}/{layer}/{kind}-{std}-{draw}.tsv"
        conda:
            "../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=grow(4000),
            runtime=grow(60),
        params:
            code=code_hash("gather_noisy"),
        script:
            "../scripts/gather_noisy.py"


for extraction in DISSECTED if NOISES else []:

    rule:
        name:
            f"dissect_noise_{extraction.probe}_{extraction.model}"
        input:
            **{
                f"draw_{draw}": layer_paths(
                    extraction,
                    f"noise/{{kind}}-{{std}}/activations-{draw}.zarr",
                )
                for draw in DRAWS
            },
            probe=f"results/probes/{extraction.probe}/probe.zarr/zarr.json",
            concepts=f"results/probes/{extraction.probe}/concepts.csv",
            weights=f"results/models/{extraction.model}/weights.safetensors",
            maps=layer_paths(extraction, "clean/activations.zarr/zarr.json"),
            clean=layer_paths(extraction, "clean/dissection.csv"),
        output:
            dissection=layer_paths(extraction, "noise/{kind}-{std}/dissection.csv"),
            tops=layer_paths(extraction, "noise/{kind}-{std}/tops.zarr/zarr.json"),
        log:
            f"logs/dissect_noise/{extraction.probe}/{extraction.model}/{{kind}}-{{std}}.log",
        benchmark:
            f"benchmarks/dissect_noise/{extraction.probe}/{extraction.model}/{{kind}}-{{std}}.tsv"
        conda:
            "../envs/torch.yaml"
        threads: 1
        resources:
            gpu=GPU_IF_STREAMED,
            mem_mb=grow(4000, per_gb=20),
            runtime=grow(240, per_gb=4),
        params:
            **RUN
            | {
                "model": extraction.model,
                "spec": config["models"][extraction.model],
            },
            layers=extraction.layers,
            units=extraction.units,
            fractions=config["noise"]["fractions"],
            draws=DRAWS,
            noise=DRAWN,
            code=code_hash("dissect_noise"),
        script:
            "../scripts/dissect_noise.py"
