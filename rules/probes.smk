from nemesis.probes.scan import fingerprint


rule make_minibroden:
    """Draw the embedded probing dataset."""
    output:
        index=paths.DRAWN_INDEX,
        descriptions=paths.DRAWN_DESCRIPTIONS,
        sheet=paths.CONTACT_SHEET,
    log:
        "logs/make_minibroden/{probe}.log",
    benchmark:
        "benchmarks/make_minibroden/{probe}.tsv"
    wildcard_constraints:
        probe=user_files.match_kinds(config["probes"], "minibroden"),
    conda:
        "../envs/data.yaml"
    threads: 2
    resources:
        mem_mb=grow(1000),
        runtime=grow(10),
    params:
        images=lambda wildcards: config["probes"][wildcards.probe]["images"],
        size=lambda wildcards: config["probes"][wildcards.probe]["size"],
        seed=config["seed"],
        draw=lambda wildcards: config["probes"][wildcards.probe]["draw"],
        code=code_hash("make_minibroden"),
    script:
        "../scripts/make_minibroden.py"


rule prepare_probe:
    """Decode images and label maps once."""
    input:
        index=lambda wildcards: user_files.find_probe_index(PLAN, wildcards.probe),
    output:
        store=paths.PROBE,
        concepts=paths.CONCEPTS,
    log:
        "logs/prepare_probe/{probe}.log",
    benchmark:
        "benchmarks/prepare_probe/{probe}.tsv"
    wildcard_constraints:
        probe=user_files.match_other_kinds(config["probes"], "folder"),
    conda:
        "../envs/data.yaml"
    threads: 2
    resources:
        mem_mb=grow(2000),
        runtime=grow(120),
    params:
        spec=lambda wildcards: config["probes"][wildcards.probe],
        code=code_hash("prepare_probe"),
    script:
        "../scripts/prepare_probe.py"


rule prepare_folder:
    """Decode a folder of images without masks once."""
    input:
        # Its own time says nothing of the images in it; `listing` does.
        folder=lambda wildcards: ancient(
            user_files.if_there(config["probes"][wildcards.probe]["path"])
        ),
    output:
        store=paths.PROBE,
        concepts=paths.CONCEPTS,
    log:
        "logs/prepare_folder/{probe}.log",
    benchmark:
        "benchmarks/prepare_folder/{probe}.tsv"
    wildcard_constraints:
        probe=user_files.match_kinds(config["probes"], "folder"),
    conda:
        "../envs/data.yaml"
    threads: 2
    resources:
        mem_mb=grow(2000),
        runtime=grow(120),
    params:
        spec=lambda wildcards: config["probes"][wildcards.probe],
        listing=lambda wildcards, input: list(map(fingerprint, input)),
        code=code_hash("prepare_folder"),
    script:
        "../scripts/prepare_folder.py"
