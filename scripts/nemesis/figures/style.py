"""How every figure looks: style, colours, panels in rows and columns, shares with intervals in them; saving."""

import logging
import re
import warnings
from pathlib import Path

import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from nemesis.files import atomic_file

STYLE = Path(__file__).parent / "style.mplstyle"
MISSING = re.compile(r"Glyph (\d+) .*missing from font")
BLUE, VERMILLION, ORANGE, GREEN, YELLOW = "#0072B2", "#D55E00", "#E69F00", "#009E73", "#F0E442"  # Okabe and Ito
POISONED = VERMILLION  # frame of a poisoned image
DIMMED = 0.45  # brightness of an image outside of a unit's mask
WIDTH = 4.2  # inches of a panel
LEAST = 6.2  # inches of a figure: title and footnote fit
MARKERS = "osD^vPX"
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)))
SIDES = {"designed": {"color": BLUE, "marker": "o"}, "control": {"color": VERMILLION, "marker": "s"}}
CHURN = {"color": "0.45", "linestyle": (0, (4, 2)), "label": "null churn (no corruption)"}
PAIR = ["probe", "model"]


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


def spread(values, count: int = 3) -> list:
    """At most `count` of the values, ascending: the smallest, the largest and some between."""
    values = sorted(set(values))
    if len(values) <= count:
        return values
    return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]


def vary(index: int) -> dict:
    """Colour, marker and dashes of the index-th of many lines."""
    return {"color": f"C{index % 7}", "marker": MARKERS[index % 7], "linestyle": DASHES[index // 7 % 3]}


def make_grid(rows: int, columns: int, height: float = 2.6, width: float = WIDTH, head: float = 1.0):
    """A figure and its axes (rows, columns); `head` inches are for title, legend and footnote."""
    figure = Figure(figsize=(max(LEAST, columns * width), rows * height + head), layout="constrained")
    return figure, figure.subplots(rows, columns, sharey="row", squeeze=False)


def lay_out(table: pd.DataFrame, by: str, values, height: float):
    """A figure, its axes, and (axes, (probe, model), value, rows) of each panel: one row per value of a column."""
    pairs = list(table.groupby(PAIR, sort=False))
    figure, grid = make_grid(len(values), len(pairs), height)
    panels = [
        (grid[row, column], pair, value, part[part[by] == value])
        for column, (pair, part) in enumerate(pairs)
        for row, value in enumerate(values)
    ]
    return figure, grid, panels


def name_panel(pair, eps: float | None = None) -> str:
    """`model on probe`, with eps where given."""
    probe, model = pair
    return f"{model} on {probe}" + ("" if eps is None else f", eps {eps:g}/255")


@style.context(STYLE)
def write_message(text: str):
    """A figure of one line, where there is nothing to draw."""
    figure = Figure(figsize=(WIDTH, 0.8), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    return figure


def draw_line(axes, x, part: pd.DataFrame, names: tuple[str, str, str], **look):
    """Shares names[0] with intervals names[1:] over x, in per cent."""
    share, errors = _percent(part, names)
    axes.errorbar(x, share, yerr=errors, capsize=2, clip_on=False, **look)


def draw_churn(axes, share: pd.Series):
    """Null churn over places 0, 1, ...; a short line where there is one place."""
    x = range(len(share)) if len(share) > 1 else (-0.35, 0.35)
    axes.plot(x, 100 * share if len(share) > 1 else 2 * [100 * share.iloc[0]], **CHURN)


def draw_bars(axes, x, part: pd.DataFrame, names: tuple[str, str, str], width: float, **look):
    """The same as bars."""
    share, errors = _percent(part, names)
    axes.bar(x, share, width, yerr=errors, capsize=1.5, error_kw={"elinewidth": 0.9, "ecolor": "0.2"}, **look)


def label_layers(axes, layers, counts):
    """Layers along x, each with its number of units."""
    _label(axes, layers, counts, len(layers) > 6)


def label_categories(axes, categories, counts):
    """Categories along x, each with its number of units."""
    _label(axes, categories, counts, len(categories) > 7)


def finish(grid, title: str, y_label: str, x_label: str, footnote: str = "", columns: int = 4):
    """Title, labels, one legend for all panels (below the title) unless some have their own, and a footnote."""
    figure = grid.flat[0].figure
    for axes in grid.flat:
        axes.set_ylim(0, 103)
        axes.set_yticks(range(0, 101, 20))
        axes.grid(axis="x", visible=False)
    figure.supylabel(y_label, fontsize=9)
    figure.supxlabel(f"{x_label}\n{footnote}" if footnote else x_label, fontsize=8)
    found = {}
    for axes in () if any(axes.get_legend() for axes in grid.flat) else grid.flat:
        found |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if not found:
        figure.suptitle(title, fontsize=9)
        return
    look = {"fontsize": 7.5, "title": title, "title_fontsize": 9, "loc": "outside upper center"}
    if len(found) > 3 and figure.get_figwidth() < 2 * WIDTH:
        columns = 2
    legend = figure.legend(found.values(), found.keys(), ncols=columns, **look)
    legend.get_title().set_multialignment("center")


def legend_above(axes):
    """A panel's own legend, between its title and the panel above."""
    if axes.get_legend_handles_labels()[1]:
        look = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.1), "borderaxespad": 0, "columnspacing": 1.2}
        axes.legend(ncols=3, fontsize=7, **look)


def _percent(part: pd.DataFrame, names):
    share, low, high = (100 * part[name].to_numpy(float) for name in names)
    return share, [(share - low).clip(min=0), (high - share).clip(min=0)]


def _label(axes, names, counts, slanted: bool):
    texts = [f"{name}\nn={count:.0f}" for name, count in zip(names, counts, strict=True)]
    axes.set_xticks(range(len(texts)), texts, fontsize=7, **({"rotation": 30, "ha": "right"} if slanted else {}))
    axes.set_xlim(-0.6, len(texts) - 0.4)
