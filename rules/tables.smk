# What there is to show of the designed corruption follows from the config.
ATTACKED = [
    vars(extraction) | {"layers": layers}
    for extraction in EXTRACTIONS
    if (
        layers := [
            layer
            for layer in extraction.layers
            if DESIGNED.get("layers") == "all" or layer in DESIGNED.get("layers", [])
        ]
    )
]
MODES = DESIGNED.get("modes", [])
# Storage is compared for the untargeted attack, collateral damage for the shared one too.
COMPARED, WATCHED = (
    [
        design
        for design in DESIGNS
        if design.mode in ([mode for mode in MODES if mode in modes] or MODES)
        and design.eps in DESIGNED.get(key, {}).get("eps", [])
    ]
    for key, modes in (
        ("compare_storage", ["untargeted"]),
        ("collateral", ["untargeted", "shared"]),
    )
)
BISECTED = (
    [
        {"method": method, "masks": masks}
        for method in DESIGNED["methods"]
        for masks in DESIGNED["masks"]
    ]
    if "minimum_epsilon" in DESIGNED
    else []
)
EACH = {"untargeted", "targeted"} & set(MODES)
# Table or figure: is there anything to put into it?
SHOWN = {
    "designed": DESIGNS,
    "table_2": EACH
    and "pgd" in DESIGNED["methods"]
    and "segmentation" in DESIGNED["masks"],
    "figure_4": EACH,
    "figure_6": "untargeted" in MODES,
    "targeted": "targeted" in MODES,
    "budget": DESIGNED.get("budgets"),
    "minimum_epsilon": BISECTED,
    "minimum_epsilon_curve": BISECTED,
    "storage": COMPARED,
    "collateral": WATCHED,
    "shared": "shared" in MODES,
}
NOT_DRAWN = {"designed", "table_2", "minimum_epsilon_curve"}
DESIGNED_TABLES = [name for name, found in SHOWN.items() if found]
DESIGNED_FIGURES = [name for name in DESIGNED_TABLES if name not in NOT_DRAWN]
NOISE_TABLES = ["noise", "figure_2a", "figure_2b", "noise_kinds"] if NOISES else []
NOISE_FIGURES = ["figure_2a", "figure_2b"] if NOISES else []
# The last of the two rules that make tables writes the summary.
SUMMARY = ["results/tables/summary.txt"]


def table_files(names):
    """The files of tables by name."""
    return [
        f"results/tables/{name}.{ending}" for name in names for ending in ("csv", "md")
    ]


def figure_files(names):
    """The files of figures by name."""
    return [
        f"results/figures/{name}.{ending}"
        for name in names
        for ending in ("svg", "png")
    ]


def design_files(designs, name):
    """A file of each of some designs, for every attacked layer."""
    return [
        path
        for design in designs
        for path in attacked_layers(f"designed/{design.name}/{name}")
    ]


def describe_designs(designs):
    """Designs as a script takes them."""
    return [vars(design) | {"name": design.name} for design in designs]


def choose_designs():
    """One kind of attack at every eps, ascending: untargeted pgd with segmentation masks, if there is such."""
    order = {
        "mode": ["untargeted", "targeted", "shared"],
        "method": ["pgd", "fgsm"],
        "masks": ["segmentation", "baseline"],
    }
    chosen = sorted(DESIGNS, key=lambda design: design.eps)
    for name, values in order.items():
        best = min((getattr(design, name) for design in chosen), key=values.index)
        chosen = [design for design in chosen if getattr(design, name) == best]
    return chosen


TABLES = table_files(["labels", *NOISE_TABLES, *DESIGNED_TABLES]) + SUMMARY
FIGURES = figure_files([*NOISE_FIGURES, *DESIGNED_FIGURES])
if DESIGNS:
    FIGURES += figure_files(["figure_3"])


rule plot_tables:
    """The paper's tables and figures from the labels before and after random corruption."""
    input:
        clean=all_layers("clean/dissection.csv"),
        null_churn=all_layers("clean/null_churn.csv"),
        noise=[
            path
            for noise in NOISES
            for path in all_layers(f"noise/{noise.name}/dissection.csv")
        ],
    output:
        table_files(["labels", *NOISE_TABLES]),
        figure_files(NOISE_FIGURES),
        summary=[] if DESIGNS else SUMMARY,
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


if DESIGNS:

    rule plot_designed:
        """Tables and figures of the designed corruption, and the summary."""
        input:
            labels="results/tables/labels.csv",
            noise="results/tables/noise.csv" if NOISES else [],
            null_churn=attacked_layers("clean/null_churn.csv"),
            dissection=design_files(DESIGNS, "dissection.csv"),
            budget=design_files(DESIGNS, "budget.csv"),
            storage=design_files(COMPARED, "storage.csv"),
            collateral=design_files(WATCHED, "collateral.csv"),
            minimum=[
                path
                for setting in BISECTED
                for path in attacked_layers(
                    "designed/minimum_epsilon-{method}-{masks}.csv".format(**setting)
                )
            ],
        output:
            table_files(DESIGNED_TABLES),
            figure_files(DESIGNED_FIGURES),
            summary=SUMMARY,
        log:
            "logs/plot_designed.log",
        benchmark:
            "benchmarks/plot_designed.tsv"
        conda:
            "../envs/plots.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=15,
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
            shown=[path for path in TABLES + FIGURES if path.endswith((".png", ".csv"))],
            code=code_hash("plot_designed"),
        script:
            "../scripts/plot_designed.py"

    # One unit is shown: of the last attacked layer of the first (probe, model) with one.
    SHOW = "results/{probe}/{model}/{layer}".format(
        **ATTACKED[0] | {"layer": ATTACKED[0]["layers"][-1]}
    )
    SHOWN_DESIGNS = choose_designs()

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
            figure_files(["figure_3"]),
        log:
            "logs/plot_unit.log",
        benchmark:
            "benchmarks/plot_unit.tsv"
        conda:
            "../envs/plots.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=15,
        params:
            place=[ATTACKED[0][name] for name in ("probe", "model")]
            + [ATTACKED[0]["layers"][-1]],
            eps=[design.eps for design in SHOWN_DESIGNS],
            code=code_hash("plot_unit"),
        script:
            "../scripts/plot_unit.py"


onsuccess:
    print(
        Path("results/tables/summary.txt").read_text()
        if Path("results/tables/summary.txt").exists()
        else ""
    )
