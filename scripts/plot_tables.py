"""The paper's tables and figures from the labels before and after corruption."""

from pathlib import Path

from nemesis.figures.margins import margin_table, plot_margins, plot_null
from nemesis.figures.noise import plot_by_fraction, plot_by_layer, save_figure
from nemesis.figures.tables import label_table, noise_table, select_kinds, summary_text, write_table
from nemesis.files import atomic_file
from nemesis.job import job

with job(snakemake.log[0]):
    params = snakemake.params
    tables, figures = Path("results/tables"), Path("results/figures")
    labels = label_table(params.experiments, params.min_iou, params.seed)
    margins = margin_table(params.experiments, params.noises, params.min_iou, params.seed)
    parts, noise = {"labels": labels, "margin": margins}, None
    plots = {"null_churn": (plot_null, labels), "margin": (plot_margins, margins)}
    if params.noises:
        noise = noise_table(params.experiments, params.noises, labels, params.min_iou)
        kind, std, fraction = noise["kind"].iloc[0], noise["std"].max(), noise["fraction"].max()
        parts |= {
            "noise": noise,
            "figure_2a": noise[(noise["kind"] == kind) & (noise["fraction"] == fraction)],
            "figure_2b": noise[(noise["kind"] == kind) & (noise["std"] == std)],
            "noise_kinds": select_kinds(noise),
        }
        plots |= {"figure_2a": (plot_by_layer, noise), "figure_2b": (plot_by_fraction, noise)}
    for name, table in parts.items():
        write_table(table, tables / name)
    for name, (plot, table) in plots.items():
        save_figure(plot(table), figures / f"{name}.svg", figures / f"{name}.png")
    if snakemake.output.summary:
        with atomic_file(snakemake.output.summary[0]) as partial:
            partial.write_text(summary_text(labels, noise), encoding="utf-8")
