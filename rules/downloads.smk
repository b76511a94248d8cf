rule download_broden:
    """Download one version of Broden and unpack it."""
    output:
        index=paths.BRODEN_INDEX,
    log:
        "logs/download_broden/{version}.log",
    benchmark:
        "benchmarks/download_broden/{version}.tsv"
    wildcard_constraints:
        version="[^/]+",
    retries: 0
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=grow(1000),
        runtime=grow(240),
    params:
        # Not an output: Snakemake would delete it before a retry, and nothing could be continued.
        archive=paths.ARCHIVE,
        # The user's own copy of the archive, if the config names one.
        user_copy=lambda wildcards: config["downloads"].get(wildcards.version),
        code=code_hash("download_broden"),
    script:
        "../scripts/download_broden.py"


rule download_weights:
    """Download the published weights of one kind of network."""
    output:
        weights=paths.DOWNLOADED_WEIGHTS,
    log:
        "logs/download_weights/{kind}/{file}.log",
    benchmark:
        "benchmarks/download_weights/{kind}/{file}.tsv"
    wildcard_constraints:
        kind="[^/]+",
        file=r"[^/]+\.pth",
    retries: 0
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(240),
    params:
        # Not an output: Snakemake would delete it before a retry, and nothing could be continued.
        archive=paths.WEIGHTS_ARCHIVE,
        code=code_hash("download_weights"),
    script:
        "../scripts/download_weights.py"
