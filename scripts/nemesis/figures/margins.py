"""How stable labels are to begin with: null churn by layer, and flips against the margin of the label."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import style

from nemesis.dissection.select import select_units
from nemesis.dissection.tables import read_table
from nemesis.figures.noise import STYLE
from nemesis.figures.panels import PAIR, draw_line, finish, label_layers, make_grid, name_panel, vary, write_message
from nemesis.perturb.noise import name_noise
from nemesis.scoring.intervals import bootstrap_interval

NULL = "null churn (no corruption)"
PARTS = 4  # groups of units with as many units each
CHANGED = ("changed", "low", "high")
CHURN = ("null_churn", "null_low", "null_high")


def margin_table(experiments: list[dict], noises, min_iou: float, seed: int, root="results") -> pd.DataFrame:
    """One line a (probe, model, corruption, quarter of the units by margin): mean share of changed labels.

    The margin is the label's IoU minus the second label's; quarters are of all units with a label of all layers of
    the network. A corruption is the resampled clean probe (null churn), or noise on its largest share of the images.
    """
    lines = []
    for experiment in experiments:
        pair = {name: experiment[name] for name in PAIR}
        folders = [Path(root, *pair.values(), layer) for layer in experiment["layers"]]
        units = [experiment["units"][layer] for layer in experiment["layers"]]
        clean = [_read_margins(folder, one, min_iou, seed) for folder, one in zip(folders, units, strict=True)]
        known = np.concatenate([part.to_numpy() for part in clean])
        edges = np.quantile(known, np.linspace(0, 1, PARTS + 1)) if len(known) else np.full(PARTS + 1, np.nan)
        named = [(NULL, "clean/null_churn.csv", "changed")]
        named += [(name_noise(kind, std), f"noise/{name}/dissection.csv", "manipulated") for name, kind, std in noises]
        for corruption, file, column in named:
            pairs = zip(folders, clean, strict=True)
            flips = pd.concat([_join_flips(read_table(folder / file), column, part) for folder, part in pairs])
            lines += [pair | {"corruption": corruption} | line for line in _group(flips, edges, seed)]
    return pd.DataFrame(lines)


def _read_margins(folder: Path, units, min_iou: float, seed: int) -> pd.Series:
    """Margin of each labelled unit of an experiment, by unit."""
    rows = read_table(folder / "clean" / "dissection.csv")
    rows = rows[rows["unit"].isin(select_units(units, rows, min_iou, seed, folder.name))]
    rows = rows[rows["iou"] >= min_iou].set_index("unit")
    return rows["iou"] - rows["iou_2"].fillna(0)


def _join_flips(rows: pd.DataFrame, column: str, margins: pd.Series) -> pd.DataFrame:
    """Margin and share of changes of each labelled unit, over replicates or draws."""
    if "fraction" in rows:
        rows = rows[rows["fraction"] == rows["fraction"].max()]
    changed = rows.groupby("unit")[column].mean()
    found = pd.DataFrame({"margin": margins, "changed": changed})
    return found.dropna()


def _group(units: pd.DataFrame, edges: np.ndarray, seed: int) -> list[dict]:
    quarter = np.searchsorted(edges[1:-1], units["margin"].to_numpy(), side="right")
    lines = []
    for number in range(PARTS):
        part = units[quarter == number]
        low, high = bootstrap_interval(part["changed"], seed)
        mean = part["changed"].mean() if len(part) else float("nan")
        line = {"quarter": number + 1, "margin_from": edges[number], "margin_to": edges[number + 1], "units": len(part)}
        lines.append(line | dict(zip(CHANGED, (mean, low, high), strict=True)))
    return lines


@style.context(STYLE)
def plot_margins(table: pd.DataFrame):
    """Share of changed labels over quarters of the units by margin: a line a corruption."""
    if not table["units"].sum():
        return write_message("nothing to draw: no unit has a label")
    figure, grid, panels = _lay_out(table, 2.8)
    for axes, part in panels:
        for index, (name, line) in enumerate(part.groupby("corruption", sort=False)):
            look = {"color": "0.45", "linestyle": "--", "marker": "o"} if name == NULL else vary(index - 1)
            draw_line(axes, line["quarter"] + 0.05 * index, line, CHANGED, label=name, **look)
        first = part[part["corruption"] == part["corruption"].iloc[0]]
        ends = zip(first["margin_from"], first["margin_to"], first["units"], strict=True)
        axes.set_xticks(first["quarter"], [f"{low:.3f} to\n{high:.3f}\nn={n}" for low, high, n in ends], fontsize=7)
    title = "Labels that change, by how clear they were; bars: 95% interval (bootstrap over units)"
    x_label = "margin: IoU of the label minus IoU of the second (quarters of the units)"
    finish(figure, grid, title, "labels that change (%)", x_label)
    return figure


@style.context(STYLE)
def plot_null(labels: pd.DataFrame):
    """Null churn by layer, from the table of labels."""
    if not labels["labelled"].sum():
        return write_message("nothing to draw: no unit has a label")
    figure, grid, panels = _lay_out(labels, 2.6)
    for axes, part in panels:
        draw_line(axes, range(len(part)), part, CHURN, color="0.35", marker="o", linestyle="none")
        label_layers(axes, part["layer"], part["labelled"])
    title = "Labels that change when the clean images are resampled; bars: 95% interval (bootstrap over units)"
    finish(figure, grid, title, "null churn (%)", "layer (n units with a label)")
    return figure


def _lay_out(table: pd.DataFrame, height: float):
    """A figure, its axes, and (axes, rows) of each network's panel."""
    pairs = list(table.groupby(PAIR, sort=False))
    figure, grid = make_grid(1, len(pairs), height)
    for axes, (pair, _) in zip(grid[0], pairs, strict=True):
        axes.set_title(name_panel(pair))
    return figure, grid, [(axes, part) for axes, (_, part) in zip(grid[0], pairs, strict=True)]
