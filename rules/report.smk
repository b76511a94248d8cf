rule show_units:
    """A layer's part of the report: its units' tables, strongest images and masks."""
    input:
        unpack(find_shown),
    output:
        folder=directory("results/report/layers/{probe}/{model}/{layer}"),
    log:
        "logs/show_units/{probe}/{model}/{layer}.log",
    benchmark:
        "benchmarks/show_units/{probe}/{model}/{layer}.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(120),
    params:
        units=choose_units,
        min_iou=config["dissection"]["min_iou"],
        seed=config["seed"],
        noises=lambda wildcards: [
            {"kind": noise.kind, "std": noise.std} for noise in layer_noises(wildcards)
        ],
        designs=attacked_designs,
        attacks=lambda wildcards: [
            {name: place[name] for name in ("method", "eps", "mode")}
            for place in select_places(DESIGN_PLACES, wildcards)
        ],
        code=code_hash("show_units"),
    script:
        "../scripts/show_units.py"


rule write_report:
    """The page of the whole run, and what was found in three sentences."""
    input:
        layers=[
            "results/report/layers/{probe}/{model}/{layer}".format(**place)
            for place in REPORTED
        ],
        probes=[
            f"results/probes/{name}/probe.zarr/zarr.json"
            for name in dict.fromkeys(place["probe"] for place in REPORTED)
        ],
        cards=[
            f"results/models/{name}/card.json"
            for name in dict.fromkeys(place["model"] for place in REPORTED)
        ],
        tables=table_files(REPORT_TABLES),
        figures=figure_files(REPORT_FIGURES),
    output:
        index="results/report/index.html",
        page=directory("results/report/page"),
        headline="results/report/headline.txt",
    log:
        "logs/write_report.log",
    benchmark:
        "benchmarks/write_report.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=grow(4000),
        runtime=grow(120),
    params:
        layers=REPORTED,
        probes=list(dict.fromkeys(place["probe"] for place in REPORTED)),
        models=list(dict.fromkeys(place["model"] for place in REPORTED)),
        tables=REPORT_TABLES,
        figures=REPORT_FIGURES,
        page=REPORT_HASH,
        config=yaml.safe_dump(config, sort_keys=False, width=100),
        storage=config["noise"]["storage"] if NOISES else "lossless",
        seed=config["seed"],
        code=code_hash("write_report"),
    script:
        "../scripts/write_report.py"


onsuccess:
    found = Path("results/report/headline.txt")
    print(f"\n{found.read_text()}" if found.exists() else "")
