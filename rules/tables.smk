NOISE_TABLES = ["noise", "figure_2a", "figure_2b", "noise_kinds"] if NOISES else []
TABLES = [
    f"results/tables/{name}.{ending}"
    for name in ["labels", *NOISE_TABLES]
    for ending in ("csv", "md")
] + ["results/tables/summary.txt"]
FIGURES = [
    f"results/figures/{name}.{ending}"
    for name in (["figure_2a", "figure_2b"] if NOISES else [])
    for ending in ("svg", "png")
]


rule plot_tables:
    """The paper's tables and figures from the labels before and after corruption."""
    input:
        clean=all_layers("clean/dissection.csv"),
        null_churn=all_layers("clean/null_churn.csv"),
        noise=[
            path
            for noise in NOISES
            for path in all_layers(f"noise/{noise.name}/dissection.csv")
        ],
    output:
        TABLES,
        FIGURES,
    log:
        "logs/plot_tables.log",
    benchmark:
        "benchmarks/plot_tables.tsv"
    conda:
        "../envs/plots.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        experiments=[vars(extraction) for extraction in EXTRACTIONS],
        noises=[(noise.name, noise.kind, noise.std) for noise in NOISES],
        min_iou=config["dissection"]["min_iou"],
        seed=config["seed"],
        code=code_hash("plot_tables"),
    script:
        "../scripts/plot_tables.py"


onsuccess:
    print(
        Path("results/tables/summary.txt").read_text()
        if Path("results/tables/summary.txt").exists()
        else ""
    )
