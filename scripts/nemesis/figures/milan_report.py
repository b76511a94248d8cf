"""The tables and figures about MILAN's descriptions by name, and the summary of them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from nemesis.figures.milan import plot_accuracy, plot_designed_scores, plot_scores_by_fraction, plot_scores_by_layer
from nemesis.figures.milan_tables import (
    MilanScores,
    figure_5,
    format_mean,
    select_designed,
    select_noise,
    table_1,
    table_3,
    table_4,
    write_milan_table,
)
from nemesis.figures.style import save_figure
from nemesis.figures.tables import PLACE, format_share
from nemesis.scoring.milan import describe_threshold, name_mean, name_share

Files = Mapping[str, Mapping[str, Path]]

# Name of a table: how it is made from the scores, or from which table it is chosen.
MAKERS = {"table_1": table_1, "table_3": table_3, "table_4": table_4, "figure_5": figure_5}
CHOSEN = {
    "milan_figure_2a": ("table_1", partial(select_noise, by="layer")),
    "milan_figure_2b": ("table_1", partial(select_noise, by="fraction")),
    "milan_figure_6": ("table_3", select_designed),
}
# Name of a figure: what draws it from the table of its name.
PLOTS = {
    "milan_figure_2a": plot_scores_by_layer,
    "milan_figure_2b": plot_scores_by_fraction,
    "milan_figure_6": plot_designed_scores,
    "figure_5": plot_accuracy,
}


def write_milan_report(scores: MilanScores, tables: Files, figures: Files) -> str:
    """Write tables and figures (each with its table); returns the summary as text.

    Their files are by name and ending: .csv, .md and .tex of a table, .svg and .png of a figure.
    """
    made = {name: MAKERS[name](scores) for name in {CHOSEN.get(name, (name,))[0] for name in tables}}
    made |= {name: choose(made[source]) for name, (source, choose) in CHOSEN.items() if name in tables}
    for name, files in tables.items():
        write_milan_table(made[name], files.values())
    for name, files in figures.items():
        save_figure(PLOTS[name](made[name]), *files.values())
    return summarise_milan(made.get("table_1"), made.get("table_3"), scores.threshold)


def summarise_milan(noise: pd.DataFrame | None, designed: pd.DataFrame | None, threshold: dict) -> str:
    """The demo's end: one line per layer, of Table 1 and of Table 3 at the largest eps and number of images."""
    text = f"MILAN: descriptions with an F1-BERT of at most {describe_threshold(threshold)} count as manipulated.\n\n"
    if noise is not None and len(noise):
        part = select_noise(noise, "layer")
        loud = part["std"].max()
        columns = {f"{part['kind'].iloc[0]} {std:g}": (rows, "") for std, rows in part.groupby("std")}
        text += _show_lines(part, columns, {f"mean F1, {loud:g}": (part[part["std"] == loud], "")})
    if designed is not None and len(designed):
        part = designed[designed["eps"] == designed["eps"].max()]
        part = part.groupby([*PLACE, "method", "mode"], sort=False).tail(1)
        part = part[part["method"] == part["method"].iloc[0]]
        modes = dict(list(part.groupby("mode", sort=False)))
        first = modes.get("untargeted", part)
        columns = {mode: (rows, "") for mode, rows in modes.items()} | {"noise, same size": (first, "noise")}
        text += f"Designed corruption, eps {part['eps'].iloc[0]:g}/255, {part['images'].max():.0f} images.\n\n"
        text += _show_lines(part, columns, {"mean F1": (first, ""), "of the noise": (first, "noise")})
    return text


def _show_lines(table: pd.DataFrame, shares: dict, means: dict) -> str:
    """One line per layer: shares, the null churn, means, each (rows, prefix) under its title."""
    shown = table[PLACE].drop_duplicates().reset_index(drop=True)
    places = list(map(tuple, shown.to_numpy()))
    for title, (rows, prefix) in (shares | {"null churn": (table, "null")}).items():
        cells = _cells(rows, [*name_share(prefix), "units"], format_share)
        shown[title] = [cells.get(place, "-") for place in places]
    for title, (rows, prefix) in (means | {"of the null": (table, "null")}).items():
        cells = _cells(rows, name_mean("f1", prefix), format_mean)
        shown[title] = [cells.get(place, "-") for place in places]
    return shown.to_string(index=False) + "\n\n"


def _cells(rows: pd.DataFrame, names, show) -> dict:
    values = zip(rows[PLACE].to_numpy(), rows[list(names)].to_numpy(float), strict=True)
    return {tuple(place): show(*line) for place, line in values}
