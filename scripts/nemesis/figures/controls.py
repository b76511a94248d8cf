"""Figures around the designed corruption; each takes the table of its name."""

import pandas as pd
from matplotlib import style
from matplotlib.ticker import MaxNLocator

from nemesis.figures.attacks import choose_setting, name_setting
from nemesis.figures.control_tables import ALL
from nemesis.figures.escape import to_legend_text
from nemesis.figures.noise import STYLE
from nemesis.figures.panels import (
    PAIR,
    SIDES,
    draw_bars,
    finish,
    label_layers,
    lay_out,
    legend_above,
    make_grid,
    name_panel,
    vary,
    write_message,
)
from nemesis.scoring.designed import CHANGED, CONTROL

EFFECTS = {"others": "other labelled units changed", "top1": "poisoned images whose top-1 class changed"}
HATCHES = ({}, {"hatch": "////", "edgecolor": "white"}, {"hatch": "....", "edgecolor": "white"})


@style.context(STYLE)
def plot_minimum(curve: pd.DataFrame):
    """Share of units changed by eps or less, from each one's minimum: a line a layer, below a line a category."""
    curve = choose_setting(curve)
    if curve.empty:
        return write_message("nothing to draw: no minimum epsilon")
    pairs = list(curve.groupby(PAIR, sort=False))
    figure, grid = make_grid(2, len(pairs), 2.6)
    for panels, (pair, part) in zip(grid.T, pairs, strict=True):
        _draw_curves(panels[0], part[part["layer"] != ALL], "layer")
        _draw_curves(panels[1], part[part["layer"] == ALL], "category")
        panels[0].set_title(name_panel(pair))
        panels[1].set_title("by category of the clean label, all attacked layers", fontsize=9)
    title = f"Smallest eps that changes a label ({name_setting(curve)}); bands: 95% Wilson interval"
    finish(figure, grid, title, "units changed by eps or less (%)", "eps (1/255), to the highest tried", shared=False)
    return figure


def _draw_curves(axes, part: pd.DataFrame, by: str):
    lines = [(name, line) for name, line in part.groupby(by, sort=False) if line["units"].iloc[0]]
    for index, (name, line) in enumerate(lines):
        color, dashes = vary(index)["color"], vary(index)["linestyle"]
        share, low, high = (100 * line[column] for column in CHANGED)
        label = to_legend_text(f"{name} (n={line['units'].iloc[0]})")
        axes.step(line["eps"], share, where="post", label=label, color=color, linestyle=dashes)
        axes.fill_between(line["eps"], low, high, step="post", color=color, alpha=0.1, linewidth=0)
    axes.set_xlim(0, max(1, part["eps"].max()))
    legend_above(axes)


@style.context(STYLE)
def plot_storage(table: pd.DataFrame):
    """Share manipulated by how the images are stored, beside the storage alone: a row a storage."""
    table = choose_setting(table)
    if table.empty:
        return write_message("nothing to draw: no storage was compared")
    modes = table["mode"].unique().tolist()
    mode = "untargeted" if "untargeted" in modes else modes[0]
    table = table[(table["eps"] == table["eps"].max()) & (table["mode"] == mode)]
    figure, grid, panels = lay_out(table, "storage", table["storage"].unique().tolist(), 1.75)
    bars = ((CHANGED, "designed", "attack, stored so"), (CONTROL, "control", "storage alone"))
    for axes, pair, storage, part in panels:
        for index, (names, side, label) in enumerate(bars):
            x = [place + 0.36 * (index - 0.5) for place in range(len(part))]
            draw_bars(axes, x, part, names, 0.36, label=label, color=SIDES[side]["color"])
        label_layers(axes, part["layer"], part["units"])
        axes.set_title(f"{name_panel(pair)}: {storage}", fontsize=9)
    title = f"What storage leaves of the attack ({_name_attack(table, mode)});\nbars: 95% Wilson interval"
    finish(figure, grid, title, "units whose label changed (%)", "layer (n attacked units)")
    return figure


@style.context(STYLE)
def plot_collateral(table: pd.DataFrame):
    """What else one attack's images change, beside noise of the same size on them."""
    table = choose_setting(table)
    if table.empty:
        return write_message("nothing to draw: no attack was watched")
    table = table[table["eps"] == table["eps"].max()]
    effects = [name for name in EFFECTS if name == "others" or table["top1_changed"].notna().any()]
    pairs = list(table.groupby(PAIR, sort=False))
    figure, grid = make_grid(len(effects), len(pairs), 2.5)
    for panels, (pair, part) in zip(grid.T, pairs, strict=True):
        for axes, effect in zip(panels, effects, strict=True):
            _draw_effect(axes, part, effect)
            axes.set_title(f"{name_panel(pair)}:\n{EFFECTS[effect]}", fontsize=9)
    interval = "95% interval (bootstrap over units; one set of images: Wilson)"
    title = f"What else one attack's images change ({_name_attack(table)});\nbars: {interval}"
    finish(figure, grid, title, "changed (%)", "layer (n attacked units)")
    for panels, effect in zip(grid, effects, strict=True):
        highest = 100 * table[[f"{effect}_high", f"noise_{effect}_high"]].max(axis=None)
        top = min(103, 1.1 * highest) if highest > 0 else 103
        panels[0].set_ylim(0, top)
        panels[0].set_yticks(MaxNLocator(5).tick_values(0, top)[:-1])
    return figure


def _draw_effect(axes, part: pd.DataFrame, effect: str):
    """Bars of an effect over layers: for each mode the attack and the noise."""
    modes = part["mode"].unique().tolist()
    width = 0.84 / (2 * len(modes))
    for index, mode in enumerate(modes):
        line, whose = part[part["mode"] == mode], "one set for all" if mode == "shared" else f"{mode}, one set a unit"
        for place, (prefix, side, what) in enumerate(
            ((effect, "designed", "designed"), (f"noise_{effect}", "control", "noise"))
        ):
            names = (f"{prefix}_changed", f"{prefix}_low", f"{prefix}_high")
            x = [layer - 0.42 + width * (2 * index + place + 0.5) for layer in range(len(line))]
            look = HATCHES[index] | {"color": SIDES[side]["color"], "label": f"{what} ({whose})"}
            draw_bars(axes, x, line, names, width, **look)
    first = part[part["mode"] == modes[0]]
    label_layers(axes, first["layer"], first["units"])


def _name_attack(table: pd.DataFrame, mode: str = "") -> str:
    return f"{f'{mode}, ' if mode else ''}eps {table['eps'].max():g}/255, {name_setting(table)}"
