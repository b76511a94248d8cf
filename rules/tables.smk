from nemesis.figures.outputs import (
    choose_designs,
    controlled_designs,
    describe_designs,
    design_files,
    figure_files,
    layer_folder,
    list_attacked,
    list_bisected,
    list_figures,
    list_tables,
    table_files,
)

NOISY = NOISES if DISSECTED else []
LABEL_TABLES = ["labels", "margin"] if DISSECTED else []
LABEL_FIGURES = ["null_churn", "margin"] if DISSECTED else []
if NOISY:
    LABEL_TABLES += ["noise", "figure_2a", "figure_2b", "noise_kinds"]
    LABEL_FIGURES += ["figure_2a", "figure_2b"]
# What there is to show of the designed corruption follows from the config.
ATTACKED = list_attacked(DISSECTED, DESIGNED)
COMPARED = controlled_designs(DESIGNS, DESIGNED, "compare_storage")
WATCHED = controlled_designs(DESIGNS, DESIGNED, "collateral")
BISECTED = list_bisected(DESIGNED)
DESIGNED_TABLES = list_tables(DESIGNED)
DESIGNED_FIGURES = list_figures(DESIGNED)
# The last of the two rules that make tables writes the summary.
SUMMARY = ["results/tables/summary.txt"]
TABLES = table_files([*LABEL_TABLES, *DESIGNED_TABLES]) + SUMMARY if DISSECTED else []
FIGURES = figure_files([*LABEL_FIGURES, *DESIGNED_FIGURES])
if DESIGNS:
    FIGURES += figure_files(["figure_3"])


rule plot_tables:
    """The paper's tables and figures from the labels before and after random corruption."""
    input:
        clean=dissected_layers("clean/dissection.csv"),
        null_churn=dissected_layers("clean/null_churn.csv"),
        noise=[
            path
            for noise in NOISES
            for path in dissected_layers(f"noise/{noise.name}/dissection.csv")
        ],
    output:
        reported(table_files(LABEL_TABLES), "Network Dissection: tables"),
        reported(figure_files(LABEL_FIGURES), "Network Dissection: figures"),
        summary=[] if DESIGNS else SUMMARY,
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
        experiments=[vars(extraction) for extraction in DISSECTED],
        noises=[(noise.name, noise.kind, noise.std) for noise in NOISES],
        min_iou=config["dissection"]["min_iou"],
        seed=config["seed"],
        code=code_hash("plot_tables"),
    script:
        "../scripts/plot_tables.py"


if DESIGNS:

    rule plot_designed:
        """Tables and figures of the designed corruption, and the summary."""
        input:
            labels="results/tables/labels.csv",
            noise="results/tables/noise.csv" if NOISES else [],
            null_churn=attacked_layers("clean/null_churn.csv"),
            dissection=design_files(
                ATTACKED, [design.name for design in DESIGNS], "dissection.csv"
            ),
            budget=design_files(
                ATTACKED, [design.name for design in DESIGNS], "budget.csv"
            ),
            storage=design_files(
                ATTACKED, [design.name for design in COMPARED], "storage.csv"
            ),
            collateral=design_files(
                ATTACKED, [design.name for design in WATCHED], "collateral.csv"
            ),
            minimum=design_files(
                ATTACKED,
                [
                    f"minimum_epsilon-{setting['method']}-{setting['masks']}.csv"
                    for setting in BISECTED
                ],
            ),
        output:
            reported(table_files(DESIGNED_TABLES), "Designed corruption: tables"),
            reported(figure_files(DESIGNED_FIGURES), "Designed corruption: figures"),
            summary=SUMMARY,
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
            attacks={
                "experiments": ATTACKED,
                "designs": describe_designs(DESIGNS),
                "compared": describe_designs(COMPARED),
                "watched": describe_designs(WATCHED),
                "bisected": BISECTED,
                "budgets": DESIGNED["budgets"],
                "storages": DESIGNED.get("compare_storage", {}).get("kinds", []),
                "highest": DESIGNED.get("minimum_epsilon", {}).get("highest", 0),
                "min_iou": config["dissection"]["min_iou"],
                "seed": config["seed"],
            },
            tables=DESIGNED_TABLES,
            figures=DESIGNED_FIGURES,
            code=code_hash("plot_designed"),
        script:
            "../scripts/plot_designed.py"

    # One unit is shown: of the last attacked layer of the first (probe, model) with one.
    SHOW = layer_folder(ATTACKED[0], ATTACKED[0]["layers"][-1])
    SHOWN_DESIGNS = choose_designs(DESIGNS)

    rule plot_unit:
        """Figure 3: one unit before and after its label was changed."""
        input:
            probe="results/probes/{probe}/probe.zarr/zarr.json".format(**ATTACKED[0]),
            maps=f"{SHOW}/clean/activations.zarr/zarr.json",
            tally=f"{SHOW}/clean/tally.zarr/zarr.json",
            clean=f"{SHOW}/clean/dissection.csv",
            tables=[
                f"{SHOW}/designed/{design.name}/dissection.csv"
                for design in SHOWN_DESIGNS
            ],
            poison=f"{SHOW}/designed/{SHOWN_DESIGNS[-1].name}/poison.zarr/zarr.json",
            poisoned_maps=f"{SHOW}/designed/{SHOWN_DESIGNS[-1].name}/activations.zarr/zarr.json",
        output:
            reported(figure_files(["figure_3"]), "Designed corruption: figures"),
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
            place=[ATTACKED[0][name] for name in ("probe", "model")]
            + [ATTACKED[0]["layers"][-1]],
            eps=[design.eps for design in SHOWN_DESIGNS],
            code=code_hash("plot_unit"),
        script:
            "../scripts/plot_unit.py"
