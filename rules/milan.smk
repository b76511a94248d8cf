for extraction, layers in DESCRIBED:

    rule:
        name:
            f"describe_milan_{extraction.probe}_{extraction.model}"
        input:
            **CAPTIONER,
            exemplars=[
                path
                for name in ("exemplars", "null")[: 1 + NULL]
                for path in layer_paths(
                    extraction, f"clean/milan/{name}.zarr/zarr.json", layers
                )
            ],
        output:
            descriptions=[
                path
                for name in ("descriptions", "null_descriptions")[: 1 + NULL]
                for path in layer_paths(extraction, f"clean/milan/{name}.csv", layers)
            ],
        log:
            f"logs/describe_milan/{extraction.probe}/{extraction.model}/clean.log",
        benchmark:
            f"benchmarks/describe_milan/{extraction.probe}/{extraction.model}/clean.tsv"
        conda:
            "../envs/milan.yaml"
        threads: config["threads"]
        resources:
            gpu=GPU,
            mem_mb=grow(8000),
            runtime=grow(240),
        params:
            **DECODING,
            code=code_hash("describe_milan"),
        script:
            "../scripts/describe_milan.py"

    if MILAN_CORRUPTIONS:

        rule:
            name:
                f"describe_corrupted_{extraction.probe}_{extraction.model}"
            input:
                **CAPTIONER,
                exemplars=layer_paths(
                    extraction, "{corruption}/milan/exemplars.zarr/zarr.json", layers
                ),
            output:
                descriptions=layer_paths(
                    extraction, "{corruption}/milan/descriptions.csv", layers
                ),
            log:
                f"logs/describe_milan/{extraction.probe}/{extraction.model}/{{corruption}}.log",
            benchmark:
                f"benchmarks/describe_milan/{extraction.probe}/{extraction.model}/{{corruption}}.tsv"
            wildcard_constraints:
                corruption="(noise|designed)/[^/]+",
            conda:
                "../envs/milan.yaml"
            threads: config["threads"]
            resources:
                gpu=GPU,
                mem_mb=grow(8000),
                runtime=grow(240),
            params:
                **DECODING,
                code=code_hash("describe_milan"),
            script:
                "../scripts/describe_milan.py"

    rule:
        name:
            f"score_milan_{extraction.probe}_{extraction.model}"
        input:
            **JUDGE,
            clean=layer_paths(extraction, "clean/milan/descriptions.csv", layers),
            corrupted=compared_paths(extraction, layers, "descriptions"),
        output:
            scores=compared_paths(extraction, layers, "scores"),
            facts=compared_paths(extraction, layers, "scores", "json"),
        log:
            f"logs/score_milan/{extraction.probe}/{extraction.model}.log",
        benchmark:
            f"benchmarks/score_milan/{extraction.probe}/{extraction.model}.tsv"
        conda:
            "../envs/milan.yaml"
        threads: config["threads"]
        resources:
            gpu=GPU,
            mem_mb=grow(4000),
            runtime=grow(120),
        params:
            scorer=MILAN["scorer"],
            device=config["device"],
            code=code_hash("score_milan"),
        script:
            "../scripts/score_milan.py"
