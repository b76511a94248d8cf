"""Figures of the designed corruption; each takes the table of its name."""

import pandas as pd
from matplotlib import style

from nemesis.figures.attacks import choose_setting, name_setting
from nemesis.figures.designed_tables import read_claims
from nemesis.figures.escape import to_legend_text
from nemesis.figures.noise import STYLE
from nemesis.figures.panels import (
    PAIR,
    SIDES,
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
from nemesis.scoring.designed import CHANGED, FIXED_HIT, HIT, NOISE

WILSON = "bars: 95% Wilson interval"
ACROSS = 5  # panels in a row of one model
OUTCOMES = (  # mode, label, share, look
    ("untargeted", "untargeted: label changed", CHANGED, {"color": "#0072B2"}),
    ("targeted", "targeted: label changed", CHANGED, {"color": "#E69F00"}),
    ("targeted", "targeted: got the target's name", HIT, {"color": "#009E73", "hatch": "///", "edgecolor": "white"}),
)
CURVES = {  # mode: share, its axis
    "untargeted": (CHANGED, "label changed (%)"),
    "targeted": (HIT, "got the target's name (%)"),
    "shared": (CHANGED, "label changed (%)"),
}


def published_note() -> str:
    """The footnote with what the paper states."""
    texts = sorted(set(read_claims()["published"]))
    return f"published (abstract; VGG16-Places365 and ResNet50-ImageNet on Broden): {'; '.join(texts)}"


@style.context(STYLE)
def plot_categories(table: pd.DataFrame):
    """Figure 4: shares by clean category, layers together; a row an eps."""
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
    finish(figure, grid, title, "attacked units (%)", "category of the clean label (n units)", columns=len(bars))
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
    """Lines over layers, and null churn: a column a (probe, model), a row an eps."""
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
    finish(figure, grid, title, "units whose label changed (%)", "layer (n attacked units)", footnote)
    return figure


@style.context(STYLE)
def plot_budget(table: pd.DataFrame):
    """How few images are enough? Shares over the budget at the largest eps, a line a layer."""
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
    finish(figure, grid, title, "", "poisoned images (% of the probe, at most)", published_note(), shared=False)
    return figure


@style.context(STYLE)
def plot_targeted(table: pd.DataFrame):
    """Does the target's name stick? With the threshold found anew and with the clean one, over eps; a panel a layer."""
    table = choose_setting(table)
    if table.empty:
        return write_message("nothing to draw: no targeted attack")
    pairs = [(pair, list(part.groupby("layer", sort=False))) for pair, part in table.groupby(PAIR, sort=False)]
    rows = [(pair, layers[at : at + ACROSS]) for pair, layers in pairs for at in range(0, len(layers), ACROSS)]
    across, sizes = max(len(layers) for _, layers in rows), spread(table["eps"], 6)
    figure, grid = make_grid(len(rows), across, 2.3, max(1.75, 4.2 / across))
    for panels, (pair, layers) in zip(grid, rows, strict=True):
        for axes, (layer, part) in zip(panels, layers, strict=False):
            _draw_targeted(axes, part.sort_values("eps"))
            axes.set_title(f"{layer} (n={part['units'].iloc[0]})", fontsize=9)
            axes.set_xticks(sizes, [f"{eps:g}" for eps in sizes])
        panels[0].set_ylabel(name_panel(pair).replace(" on ", "\non "), fontsize=8)
        for axes in panels[len(layers) :]:
            axes.set_visible(False)
    title = f"Targeted attacks ({name_setting(table)}); {WILSON}"
    finish(figure, grid, title, "units that got the target's name (%)", "eps (1/255)")
    return figure


def _draw_targeted(axes, part: pd.DataFrame):
    width = 0.01 * (part["eps"].max() - part["eps"].min())
    for names, side, label, shift, dashes in (
        (HIT, "designed", "threshold found anew", -width, "-"),
        (FIXED_HIT, "control", "clean threshold kept", width, (0, (4, 1.5))),
    ):
        draw_line(axes, part["eps"] + shift, part, names, **SIDES[side], label=label, linestyle=dashes)
