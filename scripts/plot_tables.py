"""The paper's tables and figures from the labels before and after corruption."""

from pathlib import Path

from nemesis.figures.noise import plot_by_fraction, plot_by_layer, save_figure
from nemesis.figures.tables import label_table, noise_table, select_kinds, summary_text, write_table
from nemesis.files import atomic_file
from nemesis.job import job

with job(snakemake.log[0]):
    params = snakemake.params
    tables, figures = Path("results/tables"), Path("results/figures")
    labels = label_table(params.experiments, params.min_iou, params.seed)
    write_table(labels, tables / "labels.csv", tables / "labels.md")
    noise = None
    if params.noises:
        noise = noise_table(params.experiments, params.noises, labels, params.min_iou)
        kind, std, fraction = noise["kind"].iloc[0], noise["std"].max(), noise["fraction"].max()
        parts = {
            "noise": noise,
            "figure_2a": noise[(noise["kind"] == kind) & (noise["fraction"] == fraction)],
            "figure_2b": noise[(noise["kind"] == kind) & (noise["std"] == std)],
            "noise_kinds": select_kinds(noise),
        }
        for name, table in parts.items():
            write_table(table, tables / f"{name}.csv", tables / f"{name}.md")
        for name, plot in (("figure_2a", plot_by_layer), ("figure_2b", plot_by_fraction)):
            save_figure(plot(noise), figures / f"{name}.svg", figures / f"{name}.png")
    if snakemake.output.summary:
        shown = [path for path in snakemake.output if path.endswith((".png", ".csv"))]
        with atomic_file(snakemake.output.summary[0]) as partial:
            partial.write_text(summary_text(labels, noise, shown), encoding="utf-8")
