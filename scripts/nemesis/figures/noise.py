"""Figure 2 of the paper: what random noise does to labels, by layer (a) and by share of images (b)."""

import logging
import re
import warnings
from pathlib import Path

import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from nemesis.figures.escape import to_legend_text
from nemesis.files import atomic_file

MISSING = re.compile(r"Glyph (\d+) .*missing from font")
STYLE = Path(__file__).parent / "style.mplstyle"
NULL = {"color": "0.45", "linestyle": (0, (4, 2)), "label": "null churn (no noise)"}


@style.context(STYLE)
def plot_by_layer(noise: pd.DataFrame):
    """Figure 2a: share of manipulated units over layers, a line a std, all images corrupted as given."""
    kind, fraction = noise["kind"].iloc[0], noise["fraction"].max()
    chosen = noise[(noise["kind"] == kind) & (noise["fraction"] == fraction)]
    figure, panels = _panels(chosen)
    for axes, part in panels:
        layers = list(dict.fromkeys(part["layer"]))
        places = {layer: index for index, layer in enumerate(layers)}
        stds = sorted(part["std"].unique())
        for index, std in enumerate(stds):
            line = part[part["std"] == std]
            shift = 0.12 * (index - (len(stds) - 1) / 2)
            _draw(axes, [places[layer] + shift for layer in line["layer"]], line, f"{kind}, std {std:g}")
        null = part.drop_duplicates("layer")
        axes.plot([places[layer] for layer in null["layer"]], 100 * null["null_churn"], **NULL)
        counts = null.set_index("layer")["units"]
        axes.set_xticks(range(len(layers)), [f"{layer}\nn={counts[layer]}" for layer in layers], fontsize=7)
        axes.set_xlabel("layer (n units with a label)")
    _finish(figure, panels, f"{kind} noise on {100 * fraction:g}% of the images")
    return figure


@style.context(STYLE)
def plot_by_fraction(noise: pd.DataFrame):
    """Figure 2b: share of manipulated units over the share of corrupted images, at the largest std."""
    kind = noise["kind"].iloc[0]
    std = noise[noise["kind"] == kind]["std"].max()
    figure, panels = _panels(noise[(noise["kind"] == kind) & (noise["std"] == std)])
    for axes, part in panels:
        for layer, line in part.groupby("layer", sort=False):
            if line["units"].iloc[0]:
                label = to_legend_text(f"{layer} (n={line['units'].iloc[0]})")
                _draw(axes, 100 * line["fraction"], line, label)
        axes.set_xlabel("images with noise (%)")
        axes.set_xlim(left=0)
    _finish(figure, panels, f"{kind} noise, std {std:g}")
    return figure


@style.context(STYLE)
def save_figure(figure, *paths):
    """Write a figure in the formats that the paths' endings name; the same bytes for the same data.

    Signs that the font lacks are boxes in a PNG; one warning names them.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for path in map(Path, paths):
            with atomic_file(path) as partial:
                metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
                figure.savefig(partial, format=path.suffix[1:], metadata=metadata)
    missing = {chr(int(found[1])): None for one in caught if (found := MISSING.match(str(one.message)))}
    if missing:
        logging.warning(
            "%s: the font has no sign for %s, which is a box in the PNG and text in the SVG; a file matplotlibrc with"
            " `font.family: DejaVu Sans, <a font that has it>` mends that",
            Path(paths[-1]),
            " ".join(missing),
        )
    for one in caught:
        if not MISSING.match(str(one.message)):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _panels(table: pd.DataFrame):
    """One panel a (probe, model)."""
    groups = list(table.groupby(["probe", "model"], sort=False))
    figure = Figure(figsize=(max(1, len(groups)) * 4.2, 3.6), layout="constrained")
    axes = figure.subplots(1, max(1, len(groups)), sharey=True, squeeze=False)[0]
    for panel, ((probe, model), _) in zip(axes, groups, strict=False):
        panel.set_title(f"{model} on {probe}")
    return figure, [(panel, part) for panel, (_, part) in zip(axes, groups, strict=False)]


def _draw(axes, x, line: pd.DataFrame, label: str):
    share = 100 * line["manipulated"]
    below, above = share - 100 * line["low"], 100 * line["high"] - share
    axes.errorbar(x, share, yerr=[below.clip(lower=0), above.clip(lower=0)], marker="o", capsize=2, label=label)


def _finish(figure, panels, title: str):
    for axes, part in panels:
        axes.set_ylim(0, 100)
        axes.legend(fontsize=7, loc="upper left")
        claims = sorted(set(part["published"]) - {""})
        if claims:
            axes.annotate(f"published: {'; '.join(claims)}", (0.02, 0.02), xycoords="axes fraction", fontsize=7)
    if panels:
        panels[0][0].set_ylabel("units whose label changed (%)")
    figure.suptitle(f"{title}; bars: 95% Wilson interval", fontsize=9)
