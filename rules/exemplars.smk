for extraction, layers in DESCRIBED:

    rule:
        name:
            f"compute_exemplars_{extraction.probe}_{extraction.model}"
        input:
            probe=f"results/probes/{extraction.probe}/probe.zarr/zarr.json",
            card=f"results/models/{extraction.model}/card.json",
            maps=layer_paths(extraction, "clean/activations.zarr/zarr.json", layers),
            thresholds=layer_paths(extraction, "clean/thresholds.csv", layers),
        output:
            exemplars=layer_paths(
                extraction, "clean/milan/exemplars.zarr/zarr.json", layers
            ),
            null=(
                layer_paths(extraction, "clean/milan/null.zarr/zarr.json", layers)
                if NULL
                else []
            ),
        log:
            f"logs/compute_exemplars/{extraction.probe}/{extraction.model}/clean.log",
        benchmark:
            f"benchmarks/compute_exemplars/{extraction.probe}/{extraction.model}/clean.tsv"
        conda:
            "../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=grow(4000),
            runtime=grow(60, per_gb=1),
        params:
            **EXEMPLARS,
            layers=layers,
            units=dict.fromkeys(layers, MILAN["units"]),
            code=code_hash("compute_exemplars"),
        script:
            "../scripts/compute_exemplars.py"

    if "noise" in MILAN:

        rule:
            name:
                f"compute_noisy_exemplars_{extraction.probe}_{extraction.model}"
            input:
                **{
                    f"draw_{draw}": layer_paths(
                        extraction,
                        f"noise/{{kind}}-{{std}}/activations-{draw}.zarr",
                        layers,
                    )
                    for draw in DRAWS
                },
                probe=f"results/probes/{extraction.probe}/probe.zarr/zarr.json",
                card=f"results/models/{extraction.model}/card.json",
                maps=layer_paths(extraction, "clean/activations.zarr/zarr.json", layers),
                thresholds=layer_paths(extraction, "clean/thresholds.csv", layers),
            output:
                exemplars=layer_paths(
                    extraction,
                    "noise/{kind}-{std}/milan/exemplars.zarr/zarr.json",
                    layers,
                ),
            log:
                f"logs/compute_noisy_exemplars/{extraction.probe}/{extraction.model}/{{kind}}-{{std}}.log",
            benchmark:
                f"benchmarks/compute_noisy_exemplars/{extraction.probe}/{extraction.model}/{{kind}}-{{std}}.tsv"
            conda:
                "../envs/data.yaml"
            threads: 1
            resources:
                mem_mb=grow(4000),
                runtime=grow(60, per_gb=1),
            params:
                **EXEMPLARS,
                layers=layers,
                units=dict.fromkeys(layers, MILAN["units"]),
                fractions=MILAN["noise"]["fractions"],
                storage=config["noise"]["storage"],
                draws=DRAWS,
                code=code_hash("compute_noisy_exemplars"),
            script:
                "../scripts/compute_noisy_exemplars.py"


if EXEMPLAR_DESIGNS:

    rule poison_exemplars:
        """Poisoned images of described units (Eq. 8 and 9), and the maps that they give."""
        input:
            probe="results/probes/{probe}/probe.zarr/zarr.json",
            weights="results/models/{model}/weights.safetensors",
            maps=f"{CLEAN}/activations.zarr/zarr.json",
            exemplars=f"{CLEAN}/milan/exemplars.zarr/zarr.json",
        output:
            poison=for_each_exemplar_eps(f"{EXEMPLAR_SETTING}/poison.zarr/zarr.json"),
            maps=for_each_exemplar_eps(f"{EXEMPLAR_SETTING}/activations.zarr/zarr.json"),
        log:
            f"logs/poison_exemplars/{EXEMPLAR_ATTACK}.log",
        benchmark:
            f"benchmarks/poison_exemplars/{EXEMPLAR_ATTACK}.tsv"
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
                name: value for name, value in POISONING.items() if name != "counts"
            },
            code=code_hash("poison_exemplars"),
        script:
            "../scripts/poison_exemplars.py"

    rule compute_poisoned_exemplars:
        """Exemplars of the attacked units, the more of their images are poisoned."""
        input:
            probe="results/probes/{probe}/probe.zarr/zarr.json",
            card="results/models/{model}/card.json",
            maps=f"{CLEAN}/activations.zarr/zarr.json",
            exemplars=f"{CLEAN}/milan/exemplars.zarr/zarr.json",
            poison=for_each_exemplar_eps(f"{EXEMPLAR_SETTING}/poison.zarr/zarr.json"),
            poisoned_maps=for_each_exemplar_eps(
                f"{EXEMPLAR_SETTING}/activations.zarr/zarr.json"
            ),
        output:
            exemplars=for_each_exemplar_eps(
                f"{EXEMPLAR_SETTING}/milan/exemplars.zarr/zarr.json"
            ),
        log:
            f"logs/compute_poisoned_exemplars/{EXEMPLAR_ATTACK}.log",
        benchmark:
            f"benchmarks/compute_poisoned_exemplars/{EXEMPLAR_ATTACK}.tsv"
        conda:
            "../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=grow(4000),
            runtime=grow(60),
        params:
            **EXEMPLARS,
            designed={name: POISONING[name] for name in ("images", "counts", "storage")},
            device=config["device"],
            code=code_hash("compute_poisoned_exemplars"),
        script:
            "../scripts/compute_poisoned_exemplars.py"

    rule predict_poisoned:
        """What the network says of the probe, the more of its images are poisoned (Figure 5)."""
        input:
            probe="results/probes/{probe}/probe.zarr/zarr.json",
            weights="results/models/{model}/weights.safetensors",
            card="results/models/{model}/card.json",
            maps=f"{CLEAN}/activations.zarr/zarr.json",
            exemplars=f"{CLEAN}/milan/exemplars.zarr/zarr.json",
            poison=for_each_exemplar_eps(f"{EXEMPLAR_SETTING}/poison.zarr/zarr.json"),
        output:
            predictions=for_each_exemplar_eps(f"{EXEMPLAR_SETTING}/predictions.csv"),
        log:
            f"logs/predict_poisoned/{EXEMPLAR_ATTACK}.log",
        benchmark:
            f"benchmarks/predict_poisoned/{EXEMPLAR_ATTACK}.tsv"
        conda:
            "../envs/torch.yaml"
        threads: config["threads"]
        resources:
            gpu=GPU,
            mem_mb=grow(8000),
            runtime=grow(240),
        params:
            **RUN,
            designed={name: POISONING[name] for name in ("images", "counts", "storage")},
            code=code_hash("predict_poisoned"),
        script:
            "../scripts/predict_poisoned.py"
