"""Tables over all experiments: CSV for programs, Markdown for readers."""

import math
import re
from pathlib import Path

import pandas as pd

from nemesis.dissection.select import select_units
from nemesis.dissection.tables import read_table
from nemesis.figures.attacks import choose_setting, name_setting
from nemesis.figures.escape import from_markdown_text, needs_unicode, one_line, to_latex_text, to_markdown_text
from nemesis.files import atomic_file, write_csv
from nemesis.scoring.shares import summarise_noise, summarise_null

PLACE = ["probe", "model", "layer"]
PUBLISHED = Path(__file__).parent / "published" / "claims.csv"
CELL = re.compile(r"(?<=\| )((?:[^\\|]|\\.)*)(?= \|)")  # of a line that `to_markdown` wrote


def label_table(experiments: list[dict], min_iou: float, seed: int, root="results") -> pd.DataFrame:
    """One line a layer: its units, how many have a label, in which categories, and the null churn."""
    lines = []
    for experiment in experiments:
        for layer in experiment["layers"]:
            folder = Path(root, experiment["probe"], experiment["model"], layer, "clean")
            clean = read_table(folder / "dissection.csv")
            units = select_units(experiment["units"][layer], clean, min_iou, seed, layer)
            chosen = clean[clean["unit"].isin(units)]
            labelled = chosen[chosen["iou"] >= min_iou]
            line = {"probe": experiment["probe"], "model": experiment["model"], "layer": layer}
            line |= {"units": len(chosen), "labelled": len(labelled), "concepts": labelled["label"].nunique()}
            line |= {"mean_iou": labelled["iou"].mean(), "margin": (labelled["iou"] - labelled["iou_2"]).mean()}
            line |= summarise_null(read_table(folder / "null_churn.csv"), labelled["unit"], seed)
            lines.append(line)
    return pd.DataFrame(lines)


def noise_table(experiments: list[dict], noises, labels: pd.DataFrame, min_iou: float, root="results") -> pd.DataFrame:
    """One line a (layer, kind, std, fraction): share of manipulated units beside null churn and published value."""
    parts = []
    for experiment in experiments:
        for layer in experiment["layers"]:
            for name, kind, std in noises:
                path = Path(root, experiment["probe"], experiment["model"], layer, "noise", name, "dissection.csv")
                part = summarise_noise(read_table(path), min_iou)
                place = {"probe": experiment["probe"], "model": experiment["model"], "layer": layer}
                for column, value in reversed((place | {"kind": kind, "std": std}).items()):
                    part.insert(0, column, value)
                parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table = table.merge(labels[[*PLACE, "null_churn", "null_low", "null_high"]], on=PLACE, how="left")
    return add_published(table)


def add_published(table: pd.DataFrame) -> pd.DataFrame:
    """Set `published` (text) where the paper states a value for this probe, model and noise."""
    claims = pd.read_csv(PUBLISHED, comment="#", keep_default_na=False)
    keys = ["probe", "model", "kind", "std", "fraction"]
    return table.merge(claims[[*keys, "published"]], on=keys, how="left").fillna({"published": ""})


def format_share(value: float, low: float, high: float, n: int) -> str:
    """A share as `12% [8, 17], n=80`; a dash when there is no unit or no share."""
    if not n or math.isnan(value):
        return "-"
    return f"{100 * value:.0f}% [{100 * low:.0f}, {100 * high:.0f}], n={n:.0f}"


def write_table(table: pd.DataFrame, stem, show=None, note: str = ""):
    """Write a table as `stem`.csv (full precision), .md and .tex (rounded, or as `show(table)` has it)."""
    write_csv(table, f"{stem}.csv")
    shown = show(table) if show else table
    for ending, text in (("md", to_markdown(shown, note)), ("tex", to_latex(shown, note))):
        with atomic_file(f"{stem}.{ending}") as partial:
            partial.write_text(text, encoding="utf-8")


def to_markdown(table: pd.DataFrame, note: str = "") -> str:
    """A Markdown table; floats to three places, text as it is; a note of one line below it."""
    rows = [[to_markdown_text(_cell(value)) for value in row] for row in table.itertuples(index=False)]
    lines = ["| " + " | ".join(map(to_markdown_text, table.columns)) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, *(["", to_markdown_text(note)] if note else [])]) + "\n"


def read_markdown(text: str) -> tuple[list[str], list[list[str]], str]:
    """Header, rows and note of what `to_markdown` wrote, nothing escaped."""
    table, _, note = text.partition("\n\n")
    cells = [[from_markdown_text(cell) for cell in CELL.findall(line)] for line in table.removesuffix("\n").split("\n")]
    return cells[0], cells[2:], from_markdown_text(note.strip())


def to_latex(table: pd.DataFrame, note: str = "") -> str:
    """The same as a LaTeX table for the package booktabs."""
    rows = [[to_latex_text(_cell(value)) for value in row] for row in table.itertuples(index=False)]
    text = pd.DataFrame(rows, columns=[to_latex_text(name) for name in table.columns]).to_latex(index=False)
    head = "% needs \\usepackage{booktabs}\n"
    head += "% compile it with XeLaTeX or LuaLaTeX, in a font that has its signs\n" if needs_unicode(text) else ""
    return head + text + (f"% {one_line(note)}\n" if note else "")


def _cell(value) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)


def summary_text(labels: pd.DataFrame, noise: pd.DataFrame | None, designed: pd.DataFrame | None = None) -> str:
    """The labels in short: one line a layer, and the same for the attacked layers."""
    shown = labels[PLACE].copy()
    shown["labelled"] = [f"{a} of {b}" for a, b in zip(labels["labelled"], labels["units"], strict=True)]
    if noise is not None and len(noise):
        kind, fraction = noise["kind"].iloc[0], noise["fraction"].max()
        whole = noise[(noise["kind"] == kind) & (noise["fraction"] == fraction)]
        for std, part in whole.groupby("std"):
            shown[f"{kind} {std:g}"] = _show_shares(part, shown, ["manipulated", "low", "high", "units"])
    churn = zip(labels["null_churn"], labels["null_low"], labels["null_high"], labels["labelled"], strict=True)
    shown["null churn"] = [format_share(*values) for values in churn]
    title = "Share of labelled units whose label changed, with 95% interval.\n"
    title += "Null churn: the same without any corruption, on resampled clean images.\n\n"
    text = title + shown.to_string(index=False) + "\n\n"
    if designed is not None and len(designed):
        text += _summarise_designed(designed)
    return text


def _summarise_designed(designed: pd.DataFrame) -> str:
    """One line an attacked layer at the largest eps: each mode, and noise of the same size."""
    chosen = choose_setting(designed)
    chosen = chosen[chosen["eps"] == chosen["eps"].max()]
    shown, modes = chosen[PLACE].drop_duplicates().reset_index(drop=True), chosen["mode"].unique().tolist()
    for mode, part in chosen.groupby("mode", sort=False):
        shown[mode] = _show_shares(part, shown, ["manipulated", "low", "high", "units"])
    first = chosen[chosen["mode"] == ("untargeted" if "untargeted" in modes else modes[0])]
    same = ["noise_manipulated", "noise_low", "noise_high", "units"]
    shown["noise, same size"] = _show_shares(first, shown, same)
    shown["null churn"] = _show_shares(first, shown, ["null_churn", "null_low", "null_high", "units"])
    fraction = 100 * chosen["fraction_poisoned"].max()
    title = f"Designed corruption ({name_setting(chosen)}), eps {chosen['eps'].iloc[0]:g}/255"
    title += f", at most {fraction:.3g}% of the images" if fraction > 0 else ""
    return f"{title}: the same share of the attacked units.\n\n{shown.to_string(index=False)}\n\n"


def _show_shares(part: pd.DataFrame, shown: pd.DataFrame, names: list[str]) -> list[str]:
    """The shares of a part of a table, as text, in the order of the places of `shown`."""
    cells = part.set_index(PLACE)[names]
    return [format_share(*cells.loc[tuple(place)].to_list()) for place in shown[PLACE].to_numpy()]


def select_kinds(noise: pd.DataFrame) -> pd.DataFrame:
    """The kinds of noise side by side: all at the largest fraction, sorted by layer and size."""
    whole = noise[noise["fraction"] == noise["fraction"].max()]
    order = whole.assign(place=whole.groupby(PLACE, sort=False).ngroup())
    return order.sort_values(["place", "std", "kind"], kind="stable").drop(columns="place")
