"""A sheet of clean units: exemplars, what MILAN says of them, and the label of Network Dissection."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from nemesis.dissection.tables import read_table
from nemesis.figures.escape import one_line, to_figure_text
from nemesis.figures.exemplar_strips import Strip, cut_strip, draw_strip, find_row, open_file, strip_shape
from nemesis.figures.style import STYLE, write_message
from nemesis.scoring.descriptions import read_descriptions

STREAM = 0x73686565
UNITS, EXEMPLARS = 20, 8
COLUMNS = 2
WIDTH = 4.5  # inches of a strip
MARGIN, HEAD, CAPTION = 0.25, 0.62, 0.34  # inches
LINE = 72  # characters that fit above a strip
GREY = "0.4"


@dataclass(frozen=True)
class Described:
    """A clean unit of a place (probe, model, layer) with its description.

    `label` is None where the unit was not dissected, "" where it has none.
    """

    place: tuple[str, str, str]
    unit: int
    description: str
    label: str | None
    strip: Strip


def gather_units(
    exemplars: Mapping[tuple, str],
    descriptions: Mapping[tuple, str],
    dissections: Mapping[tuple, str],
    min_iou: float,
    seed: int,
    count: int = UNITS,
) -> list[Described]:
    """Draw `count` described units with the seed, as evenly from the places as they allow.

    Files are by place (probe, model, layer): an exemplars.zarr (its zarr.json) and a descriptions.csv each, and a
    dissection.csv where the probe has masks.
    """
    texts = {place: read_descriptions(path).set_index("unit")["description"] for place, path in descriptions.items()}
    chosen = choose_units({place: text.index.to_numpy() for place, text in texts.items()}, count, seed)
    found = []
    for place, units in chosen.items():
        if not units:
            continue
        labels = read_labels(dissections[place], min_iou) if place in dissections else None
        file = open_file(exemplars[place])
        for unit in units:
            strip = cut_strip(file, find_row(file, unit, {}), EXEMPLARS)
            label = labels.get(unit, "") if labels is not None else None
            found.append(Described(place, unit, texts[place][unit], label, strip))
    return found


def choose_units(units: Mapping[tuple, np.ndarray], count: int, seed: int) -> dict[tuple, list[int]]:
    """At most `count` units in all, ascending for each place; the places take turns."""
    turns = []
    for index, (place, numbers) in enumerate(units.items()):
        stream = np.random.SeedSequence([seed, STREAM, zlib.crc32(repr(list(place)).encode())])
        drawn = np.random.default_rng(stream).permutation(numbers)
        turns += [(turn, index, int(unit)) for turn, unit in enumerate(drawn)]
    chosen = sorted(turns)[:count]
    return {place: sorted(unit for _, turn, unit in chosen if turn == index) for index, place in enumerate(units)}


def read_labels(path, min_iou: float) -> dict[int, str]:
    """Label and IoU in words of every unit of a clean dissection.csv; "" below `min_iou`."""
    table = read_table(path)
    iou = pd.to_numeric(table["iou"]).fillna(0)
    lines = zip(table["unit"].tolist(), map(to_figure_text, table["label"]), iou, strict=True)
    return {unit: f"{label} (IoU {value:.2f})" if value >= min_iou else "" for unit, label, value in lines}


@style.context(STYLE)
def plot_units(units: list[Described]):
    """Draw the sheet, two columns of units, in the order given."""
    if not units:
        return write_message("nothing to draw: no unit was described")
    columns = min(COLUMNS, len(units))
    rows = -(-len(units) // columns)
    _, height = strip_shape(EXEMPLARS, WIDTH)
    cell = height + CAPTION + 0.12
    width, total = columns * WIDTH + (columns + 1) * MARGIN, HEAD + rows * cell + 0.1
    figure = Figure(figsize=(width, total))
    for index, unit in enumerate(units):
        column, row = divmod(index, rows)
        left, top = MARGIN + column * (WIDTH + MARGIN), total - HEAD - row * cell
        axes = figure.add_axes((left / width, (top - CAPTION - height) / total, WIDTH / width, height / total))
        draw_strip(axes, unit.strip, EXEMPLARS)
        _write_caption(figure, unit, left / width, (left + WIDTH) / width, top, total)
    figure.text(0.5, 1 - 0.1 / total, _title(units), ha="center", va="top", fontsize=9)
    return figure


def _write_caption(figure, unit: Described, left: float, right: float, top: float, total: float):
    name, text = f"{unit.place[2]}, unit {unit.unit}", one_line(unit.description) or "(empty description)"
    figure.text(left, (top - 0.02) / total, name, fontsize=6.5, color=GREY, va="top")
    if unit.label is not None:
        label = f"Network Dissection: {unit.label or 'no label'}"
        figure.text(right, (top - 0.02) / total, label, fontsize=6.5, color=GREY, ha="right", va="top")
    size = 8.5 if len(text) <= LINE else max(5, 8.5 * LINE / len(text))
    figure.text(left, (top - 0.15) / total, text, fontsize=size, va="top")


def _title(units: list[Described]) -> str:
    networks = sorted({f"{unit.place[1]} on {unit.place[0]}" for unit in units})
    many = f"{len(units)} units drawn at random" if len(units) > 1 else "one unit"
    shown = max(len(unit.strip.ids) for unit in units)
    text = f"What MILAN says of {many} ({', '.join(networks)}, clean images)\n"
    text += f"The {shown} strongest images of each, bright where it is active"
    labelled = any(unit.label is not None for unit in units)
    return text + ("; in grey: the label of Network Dissection" if labelled else "")
