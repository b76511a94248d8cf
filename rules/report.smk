import yaml

from nemesis.files import sha256_file, sha256_json

# The page's own files and the captions; by their content, so that a moved project runs nothing again.
PAGE = Path(workflow.basedir) / "report"
PAGE_HASH = sha256_json(
    {
        str(path.relative_to(PAGE)): sha256_file(path)
        for path in sorted(PAGE.rglob("*"))
        if path.is_file()
    }
)
REPORTED = gathered.report(PLAN)


rule show_units:
    """A layer's part of the report: its units' tables, strongest images and masks."""
    input:
        unpack(lambda wildcards: gathered.layer_page(PLAN, place_of(wildcards)).paths),
    output:
        folder=directory(PLAN.of_run(paths.LAYER_PAGE)),
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
        places=lambda wildcards: gathered.layer_page(PLAN, place_of(wildcards)).keys,
        units=lambda wildcards: PLAN.units[place_of(wildcards)],
        min_iou=config["dissection"]["min_iou"],
        seed=config["seed"],
        code=code_hash("show_units"),
    script:
        "../scripts/show_units.py"


rule write_report:
    """The page of the whole run, and what was found in three sentences."""
    input:
        **REPORTED.paths,
    output:
        index=PLAN.of_run(paths.REPORT_INDEX),
        page=directory(PLAN.of_run(paths.REPORT_PAGE)),
        headline=PLAN.of_run(paths.HEADLINE),
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
        **gathered.drawn_names(PLAN),
        places=REPORTED.keys,
        page=PAGE_HASH,
        config=yaml.safe_dump(config, sort_keys=False, width=100),
        storage=PLAN.noise.get("storage", "lossless"),
        seed=config["seed"],
        code=code_hash("write_report"),
    script:
        "../scripts/write_report.py"
