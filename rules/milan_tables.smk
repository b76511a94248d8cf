if MILAN_TABLES:

    rule plot_milan:
        """Tables and figures of descriptions before and after corruption."""
        input:
            threshold=JUDGE["threshold"],
            null=place_paths(PLACES, "clean/milan/null_scores.csv") if NULL else [],
            noise=place_paths(NOISE_PLACES, "{name}/milan/scores.csv"),
            designed=place_paths(DESIGN_PLACES, "{name}/milan/scores.csv"),
            predictions=place_paths(DESIGN_PLACES, "{name}/predictions.csv"),
        output:
            reported(table_files(MILAN_TABLES), "Descriptions: tables"),
            reported(figure_files(MILAN_FIGURES), "Descriptions: figures"),
            summary="results/tables/milan.txt",
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
            places=describe_places(PLACES),
            noises=describe_places(NOISE_PLACES, "kind", "std"),
            designs=describe_places(DESIGN_PLACES, "method", "eps", "mode"),
            tables=MILAN_TABLES,
            figures=MILAN_FIGURES,
            seed=config["seed"],
            code=code_hash("plot_milan"),
        script:
            "../scripts/plot_milan.py"

    rule plot_milan_example:
        """Figure 3's right half: one unit's exemplars and description before and after."""
        input:
            threshold=JUDGE["threshold"],
            clean=place_paths(CHANGED_PLACES, "clean/milan/exemplars.zarr/zarr.json"),
            corrupted=place_paths(
                CHANGED_PLACES, "{name}/milan/exemplars.zarr/zarr.json"
            ),
            scores=place_paths(CHANGED_PLACES, "{name}/milan/scores.csv"),
            null=(
                place_paths(CHANGED_PLACES, "clean/milan/null_scores.csv")
                if NULL
                else []
            ),
            poison=place_paths(DESIGN_PLACES, "{name}/poison.zarr/zarr.json"),
        output:
            reported(figure_files(["figure_3_milan"]), "Descriptions: figures"),
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
            candidates=describe_places(
                CHANGED_PLACES,
                *(("method", "eps", "mode") if EXEMPLAR_DESIGNS else ("kind", "std")),
            ),
            code=code_hash("plot_milan_example"),
        script:
            "../scripts/plot_milan_example.py"


if MILAN:

    rule plot_milan_units:
        """A sheet of clean units: exemplars, descriptions and labels."""
        input:
            exemplars=place_paths(PLACES, "clean/milan/exemplars.zarr/zarr.json"),
            descriptions=place_paths(PLACES, "clean/milan/descriptions.csv"),
            dissections=place_paths(
                [place for place in PLACES if place["labelled"]],
                "clean/dissection.csv",
            ),
        output:
            reported(figure_files(["milan_units"]), "Descriptions: figures"),
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
            places=describe_places(PLACES, "labelled"),
            min_iou=config["dissection"]["min_iou"],
            seed=config["seed"],
            code=code_hash("plot_milan_units"),
        script:
            "../scripts/plot_milan_units.py"


MILAN_RESULTS = []
if MILAN:
    MILAN_RESULTS += figure_files([*MILAN_FIGURES, *MILAN_PICTURES])
    MILAN_RESULTS += ["results/milan/quality.csv"] if CAPTIONER_IS_TRAINED else []
if MILAN_TABLES:
    MILAN_RESULTS += table_files(MILAN_TABLES) + ["results/tables/milan.txt"]
