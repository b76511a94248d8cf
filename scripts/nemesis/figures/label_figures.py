"""Figures of labels: Figure 2 of the paper (noise, by layer and by share of images), null churn, and margins."""

import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from nemesis.figures.escape import to_legend_text
from nemesis.figures.labels import CHANGED, RESAMPLED, select_by_layer
from nemesis.figures.style import (
    CHURN,
    PAIR,
    STYLE,
    WIDTH,
    draw_line,
    finish,
    label_layers,
    make_grid,
    name_panel,
    vary,
    write_message,
)
from nemesis.figures.tables import NULL


@style.context(STYLE)
def plot_by_layer(noise: pd.DataFrame):
    """Figure 2a: share of manipulated units over layers, one line per std, as many images corrupted as were tried."""
    chosen = select_by_layer(noise)
    kind, fraction = chosen["kind"].iloc[0], chosen["fraction"].iloc[0]
    figure, panels = _lay_out_noise(chosen)
    for axes, part in panels:
        layers = list(dict.fromkeys(part["layer"]))
        places = {layer: index for index, layer in enumerate(layers)}
        stds = sorted(part["std"].unique())
        for index, std in enumerate(stds):
            line = part[part["std"] == std]
            shift = 0.12 * (index - (len(stds) - 1) / 2)
            _draw_noise(axes, [places[layer] + shift for layer in line["layer"]], line, f"{kind}, std {std:g}")
        null = part.drop_duplicates("layer")
        look = CHURN | {"label": "null churn (no noise)"}
        axes.plot([places[layer] for layer in null["layer"]], 100 * null["null_churn"], **look)
        counts = null.set_index("layer")["units"]
        axes.set_xticks(range(len(layers)), [f"{layer}\nn={counts[layer]}" for layer in layers], fontsize=7)
        axes.set_xlabel("layer (n units with a label)")
    _finish_noise(figure, panels, f"{kind} noise on {100 * fraction:g}% of the images")
    return figure


@style.context(STYLE)
def plot_by_fraction(noise: pd.DataFrame):
    """Figure 2b: share of manipulated units over the share of corrupted images, at the largest std."""
    kind = noise["kind"].iloc[0]
    std = noise[noise["kind"] == kind]["std"].max()
    figure, panels = _lay_out_noise(noise[(noise["kind"] == kind) & (noise["std"] == std)])
    for axes, part in panels:
        for layer, line in part.groupby("layer", sort=False):
            if line["units"].iloc[0]:
                label = to_legend_text(f"{layer} (n={line['units'].iloc[0]})")
                _draw_noise(axes, 100 * line["fraction"], line, label)
        axes.set_xlabel("images with noise (%)")
        axes.set_xlim(left=0)
    _finish_noise(figure, panels, f"{kind} noise, std {std:g}")
    return figure


def _lay_out_noise(table: pd.DataFrame):
    """A figure, and (axes, rows) of each network's panel, side by side."""
    groups = list(table.groupby(PAIR, sort=False))
    figure = Figure(figsize=(max(1, len(groups)) * WIDTH, 3.6), layout="constrained")
    grid = figure.subplots(1, max(1, len(groups)), sharey=True, squeeze=False)[0]
    panels = [(axes, pair, part) for axes, (pair, part) in zip(grid, groups, strict=False)]
    for axes, pair, _ in panels:
        axes.set_title(name_panel(pair))
    return figure, [(axes, part) for axes, _, part in panels]


def _draw_noise(axes, x, line: pd.DataFrame, label: str):
    share = 100 * line["manipulated"]
    below, above = share - 100 * line["low"], 100 * line["high"] - share
    axes.errorbar(x, share, yerr=[below.clip(lower=0), above.clip(lower=0)], marker="o", capsize=2, label=label)


def _finish_noise(figure, panels, title: str):
    for axes, part in panels:
        axes.set_ylim(0, 100)
        axes.legend(fontsize=7, loc="upper left")
        claims = sorted(set(part["published"]) - {""})
        if claims:
            axes.annotate(f"published: {'; '.join(claims)}", (0.02, 0.02), xycoords="axes fraction", fontsize=7)
    if panels:
        panels[0][0].set_ylabel("units whose label changed (%)")
    figure.suptitle(f"{title}; bars: 95% Wilson interval", fontsize=9)


@style.context(STYLE)
def plot_null(labels: pd.DataFrame):
    """Null churn by layer, from the table of labels."""
    if not labels["labelled"].sum():
        return write_message("nothing to draw: no unit has a label")
    figure, grid, panels = _lay_out_networks(labels, 2.6)
    for axes, part in panels:
        draw_line(axes, range(len(part)), part, NULL, color="0.35", marker="o", linestyle="none")
        label_layers(axes, part["layer"], part["labelled"])
    title = "Labels that change when the clean images are resampled; bars: 95% interval (bootstrap over units)"
    finish(grid, title, "null churn (%)", "layer (n units with a label)")
    return figure


@style.context(STYLE)
def plot_margins(table: pd.DataFrame):
    """Share of changed labels over quarters of the units by margin: one line per corruption."""
    if not table["units"].sum():
        return write_message("nothing to draw: no unit has a label")
    figure, grid, panels = _lay_out_networks(table, 2.8)
    for axes, part in panels:
        for index, (name, line) in enumerate(part.groupby("corruption", sort=False)):
            look = {"color": "0.45", "linestyle": "--", "marker": "o"} if name == RESAMPLED else vary(index - 1)
            draw_line(axes, line["quarter"] + 0.05 * index, line, CHANGED, label=name, **look)
        first = part[part["corruption"] == part["corruption"].iloc[0]]
        ends = zip(first["margin_from"], first["margin_to"], first["units"], strict=True)
        axes.set_xticks(first["quarter"], [f"{low:.3f} to\n{high:.3f}\nn={n}" for low, high, n in ends], fontsize=7)
    title = "Labels that change, by how clear they were; bars: 95% interval (bootstrap over units)"
    finish(
        grid,
        title,
        "labels that change (%)",
        "margin: IoU of the label minus IoU of the second (quarters of the units)",
    )
    return figure


def _lay_out_networks(table: pd.DataFrame, height: float):
    """A figure, its axes, and (axes, rows) of each network's panel."""
    pairs = list(table.groupby(PAIR, sort=False))
    figure, grid = make_grid(1, len(pairs), height)
    for axes, (pair, _) in zip(grid[0], pairs, strict=True):
        axes.set_title(name_panel(pair))
    return figure, grid, [(axes, part) for axes, (_, part) in zip(grid[0], pairs, strict=True)]


# Name of a figure: what draws it, from the table that nemesis.figures.catalogue names.
PLOTS = {
    "null_churn": plot_null,
    "margin": plot_margins,
    "figure_2a": plot_by_layer,
    "figure_2b": plot_by_fraction,
}
