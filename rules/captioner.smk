if CAPTIONER_IS_TRAINED:

    rule train_milan:
        """Train a captioner on described regions, or on annotated units."""
        input:
            unpack(find_captioner_data),
        output:
            **CAPTIONER,
            held_out="results/milan/held_out.csv",
        log:
            "logs/train_milan.log",
        benchmark:
            "benchmarks/train_milan.tsv"
        conda:
            "../envs/milan.yaml"
        threads: config["threads"]
        resources:
            gpu=GPU,
            mem_mb=grow(8000),
            runtime=grow(240),
        params:
            captioner=MILAN["captioner"],
            milan={
                name: MILAN[name]
                for name in (
                    "exemplars",
                    "size",
                    "strategy",
                    "beam",
                    "temperature",
                    "published",
                )
            },
            device=config["device"],
            seed=config["seed"],
            code=code_hash("train_milan"),
        script:
            "../scripts/train_milan.py"

    rule score_captioner:
        """Descriptions of held-out units against the true ones, and against shuffled ones."""
        input:
            **JUDGE,
            held_out="results/milan/held_out.csv",
        output:
            quality="results/milan/quality.csv",
        log:
            "logs/score_captioner.log",
        benchmark:
            "benchmarks/score_captioner.tsv"
        conda:
            "../envs/milan.yaml"
        threads: config["threads"]
        resources:
            gpu=GPU,
            mem_mb=grow(4000),
            runtime=grow(60),
        params:
            scorer=MILAN["scorer"],
            device=config["device"],
            seed=config["seed"],
            code=code_hash("score_captioner"),
        script:
            "../scripts/score_captioner.py"


if MILAN and not CAPTIONER_IS_TRAINED:

    rule prepare_captioner:
        """Bring a published checkpoint into one format, without executing what is in it."""
        input:
            checkpoint=find_checkpoint(),
        output:
            **CAPTIONER,
        log:
            "logs/prepare_captioner.log",
        benchmark:
            "benchmarks/prepare_captioner.tsv"
        retries: 0
        conda:
            "../envs/milan.yaml"
        threads: 1
        resources:
            mem_mb=grow(4000),
            runtime=grow(240),
        params:
            captioner=MILAN["captioner"],
            # Not an output: Snakemake would delete it before a retry.
            archive="results/downloads/milan-{}.pth".format(
                MILAN["captioner"].get("name")
            ),
            code=code_hash("prepare_captioner"),
        script:
            "../scripts/prepare_captioner.py"


if MILAN:

    rule calibrate_threshold:
        """The F1 at which false positives equal false negatives, or the config's threshold."""
        input:
            pairs=find_pairs(),
        output:
            **JUDGE,
        log:
            "logs/calibrate_threshold.log",
        benchmark:
            "benchmarks/calibrate_threshold.tsv"
        conda:
            "../envs/milan.yaml"
        threads: config["threads"]
        resources:
            gpu=GPU,
            mem_mb=grow(4000),
            runtime=grow(60),
        params:
            threshold=MILAN["threshold"],
            scorer=MILAN["scorer"],
            device=config["device"],
            seed=config["seed"],
            code=code_hash("calibrate_threshold"),
        script:
            "../scripts/calibrate_threshold.py"
