"""The tables and figures of labels and of the designed corruption by name, and the summary of both."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pandas as pd

from nemesis.figures import designed_figures, designed_tables, label_figures, labels
from nemesis.figures.attacks import Attacks, choose_setting, name_setting
from nemesis.figures.catalogue import DRAWN_FROM
from nemesis.figures.labels import Labels
from nemesis.figures.style import save_figure
from nemesis.figures.tables import NULL, PLACE, format_share, write_table

Files = Mapping[str, Mapping[str, Path]]  # by name and ending
Tables = dict[str, pd.DataFrame]


def write_labels(files: Labels, tables: Files, figures: Files) -> Tables:
    """Write tables and figures of labels; returns the tables. Each name has files by ending, as `group_files` gives."""
    made = make_tables(files, {*tables, *(DRAWN_FROM[name] for name in figures)}, labels.MAKERS, labels.CHOSEN)
    for name, paths in tables.items():
        write_table(made[name], paths.values())
    draw_figures(made, figures, label_figures.PLOTS)
    return made


def write_designed(attacks: Attacks, tables: Files, figures: Files) -> Tables:
    """The same for the designed corruption; `designed` is always among the tables that are returned."""
    names = {"designed", *tables, *(DRAWN_FROM[name] for name in figures)}
    made = make_tables(attacks, names, designed_tables.MAKERS, designed_tables.CHOSEN)
    for name, paths in tables.items():
        write_table(made[name], paths.values(), designed_tables.SHOWN.get(name, designed_tables.show_shares))
    draw_figures(made, figures, designed_figures.PLOTS)
    return made


def make_tables(files, names: Collection[str], makers: Mapping[str, Callable], chosen: Mapping[str, tuple]) -> Tables:
    """The named tables, each made from the files or chosen from another one, and those others."""
    wanted = {chosen[name][0] if name in chosen else name for name in names} | set(names)
    made = {name: make(files) for name, make in makers.items() if name in wanted}
    return made | {name: choose(made[source]) for name, (source, choose) in chosen.items() if name in wanted}


def draw_figures(made: Mapping[str, pd.DataFrame], figures: Files, plots: Mapping[str, Callable]):
    """Draw figures, each from the table that the catalogue names, and write them to their files."""
    for name, paths in figures.items():
        save_figure(plots[name](made[DRAWN_FROM[name]]), *paths.values())


def summary_text(labels: pd.DataFrame, noise: pd.DataFrame | None, designed: pd.DataFrame | None = None) -> str:
    """The labels in short: one line per layer, and the same for the attacked layers."""
    shown = labels[PLACE].copy()
    shown["labelled"] = [f"{a} of {b}" for a, b in zip(labels["labelled"], labels["units"], strict=True)]
    if noise is not None and len(noise):
        kind, fraction = noise["kind"].iloc[0], noise["fraction"].max()
        whole = noise[(noise["kind"] == kind) & (noise["fraction"] == fraction)]
        for std, part in whole.groupby("std"):
            shown[f"{kind} {std:g}"] = _show_shares(part, shown, ["manipulated", "low", "high", "units"])
    churn = zip(*(labels[name] for name in (*NULL, "labelled")), strict=True)
    shown["null churn"] = [format_share(*values) for values in churn]
    title = "Share of labelled units whose label changed, with 95% interval.\n"
    title += "Null churn: the same without any corruption, on resampled clean images.\n\n"
    text = title + shown.to_string(index=False) + "\n\n"
    if designed is not None and len(designed):
        text += _summarise_designed(designed)
    return text


def _summarise_designed(designed: pd.DataFrame) -> str:
    """One line per attacked layer at the largest eps: each mode, and noise of the same size."""
    chosen = choose_setting(designed)
    chosen = chosen[chosen["eps"] == chosen["eps"].max()]
    shown, modes = chosen[PLACE].drop_duplicates().reset_index(drop=True), chosen["mode"].unique().tolist()
    for mode, part in chosen.groupby("mode", sort=False):
        shown[mode] = _show_shares(part, shown, ["manipulated", "low", "high", "units"])
    first = chosen[chosen["mode"] == ("untargeted" if "untargeted" in modes else modes[0])]
    same = ["noise_manipulated", "noise_low", "noise_high", "units"]
    shown["noise, same size"] = _show_shares(first, shown, same)
    shown["null churn"] = _show_shares(first, shown, [*NULL, "units"])
    fraction = 100 * chosen["fraction_poisoned"].max()
    title = f"Designed corruption ({name_setting(chosen)}), eps {chosen['eps'].iloc[0]:g}/255"
    title += f", at most {fraction:.3g}% of the images" if fraction > 0 else ""
    return f"{title}: the same share of the attacked units.\n\n{shown.to_string(index=False)}\n\n"


def _show_shares(part: pd.DataFrame, shown: pd.DataFrame, names: list[str]) -> list[str]:
    """The shares of a part of a table, as text, in the order of the places of `shown`."""
    cells = part.set_index(PLACE)[names]
    return [format_share(*cells.loc[tuple(place)].to_list()) for place in shown[PLACE].to_numpy()]
