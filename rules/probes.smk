from nemesis.probes.scan import fingerprint


rule make_minibroden:
    """Draw the embedded probing dataset."""
    output:
        index="results/probes/{probe}/broden/index.csv",
        descriptions="results/probes/{probe}/broden/descriptions.csv",
        sheet="results/probes/{probe}/contact_sheet.png",
    log:
        "logs/make_minibroden/{probe}.log",
    benchmark:
        "benchmarks/make_minibroden/{probe}.tsv"
    wildcard_constraints:
        probe=names_where("probes", lambda kind: kind == "minibroden"),
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
        index=find_probe_index,
    output:
        store="results/probes/{probe}/probe.zarr/zarr.json",
        concepts="results/probes/{probe}/concepts.csv",
    log:
        "logs/prepare_probe/{probe}.log",
    benchmark:
        "benchmarks/prepare_probe/{probe}.tsv"
    wildcard_constraints:
        probe=names_where("probes", lambda kind: kind != "folder"),
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
            if_there(config["probes"][wildcards.probe]["path"])
        ),
    output:
        store="results/probes/{probe}/probe.zarr/zarr.json",
        concepts="results/probes/{probe}/concepts.csv",
    log:
        "logs/prepare_folder/{probe}.log",
    benchmark:
        "benchmarks/prepare_folder/{probe}.tsv"
    wildcard_constraints:
        probe=names_where("probes", lambda kind: kind == "folder"),
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
