"""Figures of the designed corruption and of its controls; each takes the table that the catalogue names."""

import pandas as pd
from matplotlib import style
from matplotlib.ticker import MaxNLocator

from nemesis.figures.attacks import choose_setting, name_setting
from nemesis.figures.designed_tables import ALL, read_claims
from nemesis.figures.escape import to_legend_text
from nemesis.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PAIR,
    SIDES,
    STYLE,
    WIDTH,
    draw_bars,
    draw_churn,
    draw_line,
    finish,
    label_categories,
    label_layers,
    lay_out,
    legend_above,
    make_grid,
    name_panel,
    spread,
    vary,
    write_message,
)
from nemesis.scoring.designed import CHANGED, CONTROL, FIXED_HIT, HIT, NOISE

WILSON = "bars: 95% Wilson interval"
ACROSS = 5  # panels in a row of one model
OUTCOMES = (  # mode, label, share, look
    ("untargeted", "untargeted: label changed", CHANGED, {"color": BLUE}),
    ("targeted", "targeted: label changed", CHANGED, {"color": ORANGE}),
    ("targeted", "targeted: got the target's name", HIT, {"color": GREEN, "hatch": "///", "edgecolor": "white"}),
)
CURVES = {  # mode: share, its axis
    "untargeted": (CHANGED, "label changed (%)"),
    "targeted": (HIT, "got the target's name (%)"),
    "shared": (CHANGED, "label changed (%)"),
}
EFFECTS = {"others": "other labelled units changed", "top1": "poisoned images whose top-1 class changed"}
HATCHES = ({}, {"hatch": "////", "edgecolor": "white"}, {"hatch": "....", "edgecolor": "white"})


def published_note() -> str:
    """The footnote with what the paper states."""
    texts = sorted(set(read_claims()["published"]))
    return f"published (abstract; VGG16-Places365 and ResNet50-ImageNet on Broden): {'; '.join(texts)}"


@style.context(STYLE)
def plot_categories(table: pd.DataFrame):
    """Figure 4: shares by clean category, layers together; one row per eps."""
    table = choose_setting(table)
    if table.empty:
        return write_message("nothing to draw: no attack")
    bars = [bar for bar in OUTCOMES if bar[0] in set(table["mode"])]
    figure, grid, panels = lay_out(table, "eps", spread(table["eps"]), 2.1)
    width = 0.84 / len(bars)
    for axes, pair, eps, part in panels:
        for index, (mode, label, names, look) in enumerate(bars):
            line = part[part["mode"] == mode]
            x = [place - 0.42 + width * (index + 0.5) for place in range(len(line))]
            draw_bars(axes, x, line, names, width, label=label, **look)
        shown = part.drop_duplicates("category")
        label_categories(axes, shown["category"], shown["units"])
        axes.set_title(name_panel(pair, eps))
    title = f"By clean category, all attacked layers ({name_setting(table)}); {WILSON}"
    finish(grid, title, "attacked units (%)", "category of the clean label (n units)")
    return figure


@style.context(STYLE)
def plot_designed(table: pd.DataFrame):
    """Figure 6: the designed corruption against noise of the same size on the same images, over layers."""
    table = choose_setting(table)
    lines = (
        (CHANGED, SIDES["designed"] | {"label": "designed, untargeted"}),
        (NOISE, SIDES["control"] | {"label": "bernoulli noise, same size and images"}),
    )
    title = f"Designed corruption against noise ({name_setting(table)}); {WILSON}"
    return _plot_layers(table, lines, title, published_note())


@style.context(STYLE)
def plot_shared(table: pd.DataFrame):
    """One set of poisoned images for all units against one set for each, over layers."""
    table = choose_setting(table)
    labels = {"shared": ("designed", "one set of images for all"), "untargeted": ("control", "one set for each unit")}
    lines = [
        ((mode, f"{mode}_low", f"{mode}_high"), SIDES[side] | {"label": label})
        for mode, (side, label) in labels.items()
        if table[mode].notna().any()
    ]
    return _plot_layers(table, lines, f"Shared attack ({name_setting(table)}); {WILSON}")


def _plot_layers(table: pd.DataFrame, lines, title: str, footnote: str = ""):
    """Lines over layers, and null churn: one column per (probe, model), one row per eps."""
    if table.empty:
        return write_message("nothing to draw: no attack")
    figure, grid, panels = lay_out(table, "eps", spread(table["eps"]), 2.2)
    for axes, pair, eps, part in panels:
        places = range(len(part))
        draw_churn(axes, part["null_churn"])
        for index, (names, look) in enumerate(lines):
            shift = 0.1 * (index - (len(lines) - 1) / 2)
            draw_line(axes, [place + shift for place in places], part, names, **look)
        label_layers(axes, part["layer"], part["units"])
        axes.set_title(name_panel(pair, eps))
    finish(grid, title, "units whose label changed (%)", "layer (n attacked units)", footnote)
    return figure


@style.context(STYLE)
def plot_budget(table: pd.DataFrame):
    """How few images are enough? Shares over the budget at the largest eps, one line per layer."""
    table = choose_setting(table)
    table = table[table["eps"] == table["eps"].max()] if len(table) else table
    modes = [mode for mode in CURVES if len(table) and mode in set(table["mode"])]
    if not modes:
        return write_message("nothing to draw: no budget")
    figure, grid, panels = lay_out(table, "mode", modes, 2.5)
    budgets = sorted(table["budget"].unique())
    for axes, pair, mode, part in panels:
        names, y_label = CURVES[mode]
        layers = list(part.groupby("layer", sort=False))
        for index, (layer, line) in enumerate(layers):
            shift = 1.03 ** (index - (len(layers) - 1) / 2)  # so that intervals stand side by side
            shifted = 100 * line["budget"] * shift
            label = to_legend_text(f"{layer} (n={line['units'].iloc[0]})")
            draw_line(axes, shifted, line, names, label=label, **vary(index))
        axes.set_xscale("log")
        axes.set_xticks([], minor=True)
        axes.set_xticks([100 * budget for budget in budgets], [f"{100 * budget:g}" for budget in budgets])
        axes.set_title(f"{name_panel(pair)}: {mode}")
        axes.set_ylabel(y_label if axes.get_subplotspec().is_first_col() else "")
        if mode == modes[0]:
            legend_above(axes)
    title = f"How few images are enough? eps {table['eps'].max():g}/255 ({name_setting(table)}); {WILSON}"
    finish(grid, title, "", "poisoned images (% of the probe, at most)", published_note())
    return figure


@style.context(STYLE)
def plot_targeted(table: pd.DataFrame):
    """Does the target's name stick? With the threshold found anew and the clean one, over eps; one panel per layer."""
    table = choose_setting(table)
    if table.empty:
        return write_message("nothing to draw: no targeted attack")
    pairs = [(pair, list(part.groupby("layer", sort=False))) for pair, part in table.groupby(PAIR, sort=False)]
    rows = [(pair, layers[at : at + ACROSS]) for pair, layers in pairs for at in range(0, len(layers), ACROSS)]
    across, sizes = max(len(layers) for _, layers in rows), spread(table["eps"], 6)
    figure, grid = make_grid(len(rows), across, 2.3, max(1.75, WIDTH / across))
    for panels, (pair, layers) in zip(grid, rows, strict=True):
        for axes, (layer, part) in zip(panels, layers, strict=False):
            _draw_targeted(axes, part.sort_values("eps"))
            axes.set_title(f"{layer} (n={part['units'].iloc[0]})", fontsize=9)
            axes.set_xticks(sizes, [f"{eps:g}" for eps in sizes])
        panels[0].set_ylabel(name_panel(pair).replace(" on ", "\non "), fontsize=8)
        for axes in panels[len(layers) :]:
            axes.set_visible(False)
    title = f"Targeted attacks ({name_setting(table)}); {WILSON}"
    finish(grid, title, "units that got the target's name (%)", "eps (1/255)")
    return figure


def _draw_targeted(axes, part: pd.DataFrame):
    width = 0.01 * (part["eps"].max() - part["eps"].min())
    for names, side, label, shift, dashes in (
        (HIT, "designed", "threshold found anew", -width, "-"),
        (FIXED_HIT, "control", "clean threshold kept", width, (0, (4, 1.5))),
    ):
        draw_line(axes, part["eps"] + shift, part, names, **SIDES[side], label=label, linestyle=dashes)


@style.context(STYLE)
def plot_minimum(curve: pd.DataFrame):
    """Share of units changed by eps or less, from each one's minimum: one line per layer, below one per category."""
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
    finish(grid, title, "units changed by eps or less (%)", "eps (1/255), to the highest tried")
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
    """Share manipulated by how the images are stored, beside the storage alone: one row per storage."""
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
    finish(grid, title, "units whose label changed (%)", "layer (n attacked units)")
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
    finish(grid, title, "changed (%)", "layer (n attacked units)")
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


# Name of a figure: what draws it, from the table that nemesis.figures.catalogue names.
PLOTS = {
    "figure_4": plot_categories,
    "figure_6": plot_designed,
    "targeted": plot_targeted,
    "budget": plot_budget,
    "minimum_epsilon": plot_minimum,
    "storage": plot_storage,
    "collateral": plot_collateral,
    "shared": plot_shared,
}
