"""Figures about MILAN's descriptions: its lines of Figures 2 and 6 of the paper, and Figure 5."""

import math
import textwrap

import pandas as pd
from matplotlib import style
from matplotlib.lines import Line2D

from nemesis.figures.escape import to_legend_text
from nemesis.figures.milan_tables import explain_threshold
from nemesis.figures.style import (
    CHURN,
    PAIR,
    STYLE,
    draw_line,
    finish,
    label_layers,
    make_grid,
    name_panel,
    spread,
    vary,
    write_message,
)
from nemesis.figures.tables import PLACE
from nemesis.scoring.milan import name_mean, name_share

INTERVALS = "bars: 95% interval (shares: Wilson; means: bootstrap over units)"
SHARE_LABEL, MEAN_LABEL = "manipulated units (%)", "mean F1-BERT"
MOST_LINES = 7  # units with a line and a name of their own in a panel of Figure 5
MANIPULATED = {"marker": "D", "markersize": 6.5, "markeredgecolor": "black", "linestyle": "none"}


@style.context(STYLE)
def plot_scores_by_layer(table: pd.DataFrame):
    """Figure 2a for MILAN: share manipulated, and mean F1-BERT, over layers; one line per std."""
    if table.empty:
        return write_message("nothing to draw: no noise")
    kind, fraction = table["kind"].iloc[0], table["fraction"].max()
    figure, grid, pairs = _lay_out(table)
    for panels, (pair, part) in zip(grid.T, pairs, strict=True):
        layers, places = _place_layers(part)
        stds = sorted(part["std"].unique())
        for index, std in enumerate(stds):
            line, shift = part[part["std"] == std], 0.1 * (index - (len(stds) - 1) / 2)
            x = [places[layer] + shift for layer in line["layer"]]
            _draw_both(panels, x, line, vary(index) | {"label": f"{kind}, std {std:g}"})
        _draw_null(panels, layers)
        _name_layers(panels, layers, pair)
    title = f"MILAN's descriptions under {kind} noise on {100 * fraction:g}% of the images"
    return _finish(figure, grid, table, title, "layer (n described units)")


@style.context(STYLE)
def plot_scores_by_fraction(table: pd.DataFrame):
    """Figure 2b for MILAN: the same over the share of corrupted images, at the largest std; one line per layer."""
    if table.empty:
        return write_message("nothing to draw: no noise")
    kind, std = table["kind"].iloc[0], table["std"].max()
    figure, grid, pairs = _lay_out(table)
    for panels, (pair, part) in zip(grid.T, pairs, strict=True):
        for index, (layer, line) in enumerate(part.sort_values("fraction").groupby("layer", sort=False)):
            label = to_legend_text(f"{layer} (n={line['units'].iloc[0]})")
            label = f"{pair[1]}, {label}" if len(pairs) > 1 else label
            shift = 0.8 * (index - (part["layer"].nunique() - 1) / 2)
            _draw_both(panels, 100 * line["fraction"] + shift, line, vary(index) | {"label": label})
            for axes, name, factor in zip(panels, ("null_churn", "null_f1"), (100, 1), strict=True):
                look = CHURN | {"color": vary(index)["color"], "linewidth": 0.9, "label": "_"}
                axes.axhline(factor * line[name].iloc[0], **look)
        panels[0].plot([], [], **CHURN)
        panels[0].set_title(name_panel(pair))
        panels[0].tick_params(labelbottom=False)
        for axes in panels:
            axes.set_xlim(0, 104)
    title = f"MILAN's descriptions under {kind} noise, std {std:g}"
    return _finish(figure, grid, table, title, "images with noise (%)")


@style.context(STYLE)
def plot_designed_scores(table: pd.DataFrame):
    """Figure 6 for MILAN: the designed corruption against noise of the same size on the same images, over layers."""
    if table.empty:
        return write_message("nothing to draw: no untargeted attack")
    table = _choose_method(table)
    figure, grid, pairs = _lay_out(table)
    sizes = spread(table["eps"])
    for panels, (pair, part) in zip(grid.T, pairs, strict=True):
        layers, places = _place_layers(part)
        for index, eps in enumerate(sizes):
            line, color = part[part["eps"] == eps], f"C{index}"
            for side, (prefix, what) in enumerate((("", "designed"), ("noise", "bernoulli noise"))):
                shift = 0.09 * (2 * index + side - (2 * len(sizes) - 1) / 2)
                look = {"color": color, "marker": "s" if side else "o", "label": f"{what}, eps {eps:g}/255"}
                look |= {"linestyle": (0, (4, 1.5)), "markerfacecolor": "white"} if side else {}
                _draw_both(panels, [places[layer] + shift for layer in line["layer"]], line, look, prefix)
        _draw_null(panels, layers)
        _name_layers(panels, layers, pair)
    method, images = table["method"].iloc[0], table["images"].max()
    title = "MILAN's descriptions: designed corruption against noise of the same size on the same images\n"
    title += f"({method}, untargeted, at most {images:.0f} images)"
    return _finish(figure, grid, table, title, "layer (n attacked units)")


def _choose_method(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one method, pgd where it was tried."""
    methods = table["method"].unique().tolist()
    return table[table["method"] == ("pgd" if "pgd" in methods else methods[0])]


def _place_layers(part: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """One row per layer, and the layers' places on the axis."""
    layers = part.drop_duplicates("layer")
    return layers, {layer: place for place, layer in enumerate(layers["layer"])}


def _lay_out(table: pd.DataFrame):
    """One column per (probe, model): shares above, means below."""
    pairs = list(table.groupby(PAIR, sort=False))
    figure, grid = make_grid(2, len(pairs), 2.2, head=1.5)
    return figure, grid, pairs


def _draw_both(panels, x, line: pd.DataFrame, look: dict, prefix: str = ""):
    """Shares in the upper panel, means of F1-BERT in the lower one."""
    share, mean = name_share(prefix), name_mean("f1", prefix)
    if line[mean[0]].notna().any():
        draw_line(panels[0], x, line, share, **look)
        value, low, high = (line[name].to_numpy(float) for name in mean)
        errors = [(value - low).clip(min=0), (high - value).clip(min=0)]
        panels[1].errorbar(x, value, yerr=errors, capsize=2, **look)


def _draw_null(panels, layers: pd.DataFrame):
    """What happens without corruption, over layers; a short line where there is one."""
    x = range(len(layers)) if len(layers) > 1 else (-0.35, 0.35)
    for axes, name, factor in zip(panels, ("null_churn", "null_f1"), (100, 1), strict=True):
        values = factor * layers[name].to_numpy(float)
        if not pd.isna(values).all():
            axes.plot(x, values if len(layers) > 1 else 2 * [values[0]], **CHURN)


def _name_layers(panels, layers: pd.DataFrame, pair):
    for axes in panels:
        label_layers(axes, layers["layer"], layers["units"])
    panels[0].tick_params(labelbottom=False)
    panels[0].set_title(name_panel(pair))


def _finish(figure, grid, table: pd.DataFrame, title: str, x_label: str):
    """Title, legend, threshold, and axes: shares from 0 to 100%, means in one range for all panels."""
    threshold, means = table["threshold"].iloc[0], [name for name in table if name.endswith("f1_low")]
    for axes in grid[1]:
        axes.axhline(threshold, color="0.25", linewidth=0.9, linestyle=(0, (1, 1.5)), label="threshold")
    finish(grid, f"{title};\n{INTERVALS}", "", x_label, name_threshold(figure, table), columns=3)
    lowest = min(threshold, table[means].min(axis=None)) if means else threshold
    for axes in grid[1]:
        low = math.floor(10 * lowest - 0.5) / 10
        axes.set_ylim(low, 1.02)
        step = 0.1 if low > 0.35 else 0.2
        axes.set_yticks([round(1 - step * place, 1) for place in range(int((1 - low) / step + 1e-9) + 1)])
    grid[0, 0].set_ylabel(SHARE_LABEL, fontsize=8)
    grid[1, 0].set_ylabel(MEAN_LABEL, fontsize=8)
    return figure


def name_threshold(figure, table: pd.DataFrame) -> str:
    """The footnote: the threshold in use, where it comes from, and the published one."""
    return textwrap.fill(explain_threshold(table.iloc[0]), int(17 * figure.get_figwidth()), break_on_hyphens=False)


@style.context(STYLE)
def plot_accuracy(table: pd.DataFrame):
    """Figure 5: what the network says of the probe over the number of poisoned images.

    One line per unit, one row of panels per eps.
    Accuracy where every probe has the network's classes, else the share of images of which it says the
    same as of the clean ones. Points where the description was manipulated are filled.
    """
    table = table[table[["accuracy", "agreement"]].notna().any(axis=1)]
    if table.empty:
        return write_message("nothing to draw: no attack on a network with classes")
    modes = table["mode"].unique().tolist()
    mode = "untargeted" if "untargeted" in modes else modes[0]
    table = _choose_method(table[table["mode"] == mode])
    measure = "accuracy" if table["accuracy"].notna().all() else "agreement"
    sizes, places = spread(table["eps"]), list(table.groupby(PLACE, sort=False))
    figure, grid = make_grid(len(sizes), len(places), 2.2, max(2.3, 4.4 / len(places)), head=1.5)
    for panels, (place, part) in zip(grid.T, places, strict=True):
        for axes, eps in zip(panels, sizes, strict=True):
            _draw_units(axes, part[part["eps"] == eps], measure)
            axes.set_title(f"{place[-1]}, eps {eps:g}/255", fontsize=9)
        panels[0].set_title(f"{name_panel(place[:2])}\n{panels[0].get_title()}", fontsize=9)
    names = {"accuracy": "accuracy on the probe (%)", "agreement": "images with an unchanged top-1 class (%)"}
    title = f"The network's answers while a unit's description is manipulated ({table['method'].iloc[0]}, {mode})"
    handles = [
        Line2D([], [], **MANIPULATED, color="0.6", label="description manipulated"),
        Line2D([], [], marker="o", markerfacecolor="white", color="0.5", label="not manipulated (0: clean)"),
    ]
    images = table["n_images"].iloc[0]
    footnote = name_threshold(figure, table)
    finish(grid, title, names[measure], f"poisoned images (of {images:.0f})", footnote)
    figure.suptitle("")
    look = {"fontsize": 7.5, "title": title, "title_fontsize": 9, "loc": "outside upper center"}
    figure.legend(handles=handles, ncols=2, **look)
    lowest = 100 * table[measure].min()
    for axes in grid.flat:
        axes.set_ylim(max(0, 10 * math.floor((lowest - 8) / 10)), 101)
        axes.set_yticks([tick for tick in range(0, 101, 10) if tick >= axes.get_ylim()[0]])
    return figure


def _draw_units(axes, part: pd.DataFrame, measure: str):
    """One line per unit, from the clean probe on."""
    units = list(part.sort_values("count").groupby("unit"))
    for index, (unit, line) in enumerate(units):
        start = line["clean_accuracy"].iloc[0] if measure == "accuracy" else 1.0
        x, y = [0, *line["count"]], [100 * start, *(100 * line[measure])]
        named = len(units) <= MOST_LINES
        look = {"color": vary(index)["color"], "linewidth": 1.2 if named else 0.6, "marker": "o"}
        axes.plot(x, y, **look, markerfacecolor="white", label=f"unit {unit}" if named else None)
        hit = line[line["manipulated"] == 1]
        if len(hit):
            axes.plot(hit["count"], 100 * hit[measure], **MANIPULATED, color=look["color"], clip_on=False)
    if len(units) > MOST_LINES:
        axes.annotate(f"n={len(units)} units", (0.03, 0.05), xycoords="axes fraction", fontsize=7)
    elif units:
        axes.legend(fontsize=6.5, loc="lower left", ncols=1 + (len(units) > 4), handlelength=1.6)
    axes.set_xlim(left=0)
