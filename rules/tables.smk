LABELS = gathered.labels(PLAN)
ATTACKS = gathered.attacks(PLAN)
SHOWN = gathered.shown_unit(PLAN)
DESCRIBED = gathered.descriptions(PLAN)
CHANGED = gathered.changed_descriptions(PLAN)
SHEET = gathered.clean_descriptions(PLAN)
# The last of the two rules that make tables of labels writes the summary.
SUMMARY = PLAN.of_run(paths.SUMMARY)


rule plot_tables:
    """Tables and figures of labels, clean and under noise."""
    input:
        **LABELS.paths,
    output:
        **gathered.drawn_files(PLAN, "plot_tables", report),
        summary=[] if PLAN.designs else SUMMARY,
    log:
        "logs/plot_tables.log",
    benchmark:
        "benchmarks/plot_tables.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(15),
    params:
        **gathered.drawn_names(PLAN, "plot_tables"),
        seed=config["seed"],
        places=LABELS.keys,
        units=[(place, PLAN.units[place]) for place in PLAN.dissected],
        min_iou=config["dissection"]["min_iou"],
        code=code_hash("plot_tables"),
    script:
        "../scripts/plot_tables.py"


rule plot_designed:
    """Tables and figures of the designed corruption, and the summary."""
    input:
        **ATTACKS.paths,
    output:
        **gathered.drawn_files(PLAN, "plot_designed", report),
        summary=SUMMARY if PLAN.designs else [],
    log:
        "logs/plot_designed.log",
    benchmark:
        "benchmarks/plot_designed.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(15),
    params:
        **gathered.drawn_names(PLAN, "plot_designed"),
        seed=config["seed"],
        places=ATTACKS.keys,
        budgets=PLAN.designed.get("budgets"),
        storages=PLAN.designed.get("compare_storage", {}).get("kinds", []),
        highest=PLAN.designed.get("minimum_epsilon", {}).get("highest", 0),
        min_iou=config["dissection"]["min_iou"],
        code=code_hash("plot_designed"),
    script:
        "../scripts/plot_designed.py"


rule plot_unit:
    """Figure 3: one unit before and after its label was changed."""
    input:
        **SHOWN.paths,
    output:
        **gathered.drawn_files(PLAN, "plot_unit", report),
    log:
        "logs/plot_unit.log",
    benchmark:
        "benchmarks/plot_unit.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(15),
    params:
        place=gathered.shown_place(PLAN),
        eps=[design.eps for design in PLAN.shown_designs],
        code=code_hash("plot_unit"),
    script:
        "../scripts/plot_unit.py"


rule plot_milan:
    """Tables and figures of descriptions before and after corruption."""
    input:
        **DESCRIBED.paths,
    output:
        **gathered.drawn_files(PLAN, "plot_milan", report),
        summary=PLAN.of_run(paths.MILAN_SUMMARY),
    log:
        "logs/plot_milan.log",
    benchmark:
        "benchmarks/plot_milan.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(15),
    params:
        **gathered.drawn_names(PLAN, "plot_milan"),
        seed=config["seed"],
        places=DESCRIBED.keys,
        noises=gathered.described_noises(PLAN),
        designs=list(DESCRIBED.files["predictions"]),
        code=code_hash("plot_milan"),
    script:
        "../scripts/plot_milan.py"


rule plot_milan_example:
    """Figure 3's right half: one unit's exemplars and description before and after."""
    input:
        **CHANGED.paths,
    output:
        **gathered.drawn_files(PLAN, "plot_milan_example", report),
    log:
        "logs/plot_milan_example.log",
    benchmark:
        "benchmarks/plot_milan_example.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(15),
    params:
        places=CHANGED.keys,
        code=code_hash("plot_milan_example"),
    script:
        "../scripts/plot_milan_example.py"


rule plot_milan_units:
    """A sheet of clean units: exemplars, descriptions and labels."""
    input:
        **SHEET.paths,
    output:
        **gathered.drawn_files(PLAN, "plot_milan_units", report),
    log:
        "logs/plot_milan_units.log",
    benchmark:
        "benchmarks/plot_milan_units.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=grow(2000),
        runtime=grow(15),
    params:
        places=SHEET.keys,
        min_iou=config["dissection"]["min_iou"],
        seed=config["seed"],
        code=code_hash("plot_milan_units"),
    script:
        "../scripts/plot_milan_units.py"
