"""Figure 3's right half: one unit's exemplars and description before and after a corruption."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from nemesis.figures.escape import one_line
from nemesis.figures.exemplar_strips import Strip, cut_strip, draw_strip, find_row, open_file, strip_shape
from nemesis.figures.milan_tables import describe_setting, last_counts, name_setting, number_steps
from nemesis.figures.style import STYLE, write_message
from nemesis.figures.tables import PLACE
from nemesis.scoring.milan import describe_threshold, threshold_columns
from nemesis.stores import open_store, read

EXEMPLARS = 8
WIDTH, MARGIN, TEXT, GAP = 8.2, 0.2, 0.17, 0.14  # inches: strip, margin, line of text, between strips
LINE = 120  # characters in a line
SAME_NOISE = "bernoulli noise of the same size on the same images"


@dataclass(frozen=True)
class Row:
    """Exemplars under a caption; the images of the numbers `framed` were poisoned."""

    caption: str
    strip: Strip
    framed: frozenset


@dataclass(frozen=True)
class Example:
    """A unit (its row of scores, with its place and setting) and how it is described, row by row."""

    score: pd.Series
    rows: list[Row]
    manipulated: int
    units: int
    threshold: dict


@dataclass(frozen=True)
class ShownFiles:
    """The exemplars.zarr (their zarr.json) of units: clean ones by place, corrupted ones by noise or by design.

    `poison` has the poison.zarr of every design; it is empty for noise.
    """

    clean: Mapping[tuple, str]
    corrupted: Mapping[tuple, str]
    poison: Mapping[tuple, str]


def gather_change(scores: Mapping[tuple, pd.DataFrame], files: ShownFiles, threshold) -> Example | None:
    """Choose a unit among all corruptions of `files` and read what is shown of it; None where nothing was scored.

    `scores` are those that `read_scores` gives, `threshold` is the threshold's file.
    """
    candidates = [key for key in files.corrupted if key in scores]
    parts = []
    for index, key in enumerate(candidates):
        rows = scores[key].assign(**name_setting(key), candidate=index)
        parts.append(mark_unsure(rows, scores.get((*key[: len(PLACE)], "null"))))
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if found.empty:
        return None
    score = choose_change(found)
    attacked = found[(found["candidate"] == score["candidate"]) & (found["control"] == 0)]
    rows = show_rows(score, files, candidates[int(score["candidate"])], found)
    return Example(score, rows, int(attacked["manipulated"].sum()), len(attacked), threshold_columns(threshold))


def mark_unsure(rows: pd.DataFrame, null: pd.DataFrame | None) -> pd.DataFrame:
    """The rows with the largest fraction or number of images; `unsure`: the null or noise manipulates the unit, too."""
    if "count" in rows:
        rows = last_counts(number_steps(rows))
        noisy = rows.loc[(rows["control"] == 1) & (rows["manipulated"] == 1), "unit"]
    else:
        rows = rows[(rows["fraction"] == rows["fraction"].max()) & (rows["seed"] == rows["seed"].min())]
        rows, noisy = rows.assign(control=0), []
    churned = [] if null is None else null.loc[null["manipulated"] == 1, "unit"]
    return rows.assign(unsure=rows["unit"].isin([*churned, *noisy]))


def choose_change(scores: pd.DataFrame) -> pd.Series:
    """The manipulated unit with the lowest F1-BERT, one that is not `unsure` if there is such.

    Without a manipulated unit, that with the lowest F1-BERT.
    """
    rows = scores[scores["control"] == 0]
    order = rows.sort_values(["manipulated", "unsure", "f1"], ascending=[False, True, True], kind="stable")
    return order.iloc[0]


def show_rows(score: pd.Series, files: ShownFiles, key: tuple, scores: pd.DataFrame) -> list[Row]:
    """Clean exemplars, those under noise of the same size (where that was tried), and those after the corruption."""
    unit = int(score["unit"])
    clean, corrupted = open_file(files.clean[key[: len(PLACE)]]), open_file(files.corrupted[key])
    poisoned = read_poisoned(files.poison[key], score) if files.poison else frozenset()
    rows = [Row(f"clean: {quote(score['clean'])}", cut_strip(clean, find_row(clean, unit, {}), EXEMPLARS), frozenset())]
    same = (scores["candidate"] == score["candidate"]) & (scores["unit"] == unit) & (scores["control"] == 1)
    for _, line in [*scores[same][:1].iterrows(), (0, score)]:
        name = SAME_NOISE if line["control"] else describe_setting(score.to_dict())
        verdict = "manipulated" if line["manipulated"] else "not manipulated"
        caption = f"{name}: {quote(line['corrupted'])}, F1-BERT {line['f1']:.2f}, {verdict}"
        strip = cut_strip(corrupted, find_row(corrupted, unit, line.to_dict()), EXEMPLARS)
        rows.append(Row(caption, strip, frozenset() if line["control"] else poisoned))
    return rows


def read_poisoned(path, score: pd.Series) -> frozenset:
    """Numbers of the images that were poisoned for a score's unit, from a poison.zarr (its zarr.json)."""
    store = open_store(Path(path).parent)
    task, image, rank, units = (read(store[name]) for name in ("task", "image", "rank", "task_unit"))
    own = np.isin(task, np.flatnonzero(units == score["unit"]))
    return frozenset(image[own & (rank < score["count"])].tolist())


def quote(text: str) -> str:
    """A description in quotation marks."""
    return f"“{one_line(text)}”" if text else "(empty description)"


@style.context(STYLE)
def plot_change(example: Example | None):
    """Draw the example: one strip of exemplars per row, its description above."""
    if example is None:
        return write_message("nothing to draw: no description was scored")
    _, height = strip_shape(EXEMPLARS, WIDTH)
    title = [part for line in describe_example(example) for part in textwrap.wrap(line, LINE, break_on_hyphens=False)]
    captions = [textwrap.wrap(row.caption, LINE) for row in example.rows]
    heights = [height + TEXT * len(lines) + GAP for lines in captions]
    head = 0.2 + TEXT * len(title)
    width, total = WIDTH + 2 * MARGIN, head + sum(heights)
    figure, top = Figure(figsize=(width, total)), total - head
    figure.text(0.5, 1 - 0.08 / total, "\n".join(title), ha="center", va="top", fontsize=8.5)
    for row, lines, cell in zip(example.rows, captions, heights, strict=True):
        bottom = top - cell + GAP
        look = {"fontsize": 8.5, "va": "bottom", "linespacing": 1.1}
        figure.text(MARGIN / width, (bottom + height + 0.05) / total, "\n".join(lines), **look)
        axes = figure.add_axes((MARGIN / width, bottom / total, WIDTH / width, height / total))
        draw_strip(axes, row.strip, EXEMPLARS, row.framed)
        top -= cell
    return figure


def describe_example(example: Example) -> list[str]:
    """The lines of the title: the unit and how to read the pictures, how it was chosen, the threshold."""
    score = example.score
    probe, model, layer = (score[name] for name in PLACE)
    shown = len(example.rows[0].strip.ids)
    first = f"Unit {score['unit']} of {layer} ({model} on {probe}): its {shown} strongest images, bright where active"
    first += "; framed: poisoned" if any(row.framed for row in example.rows) else ""
    chosen = f"{example.manipulated} of {example.units} units were manipulated; shown: the lowest F1-BERT"
    if example.manipulated and not score["unsure"]:
        chosen += " of those that neither noise nor resampling manipulates"
    return [first, chosen, f"manipulated: F1-BERT at most {describe_threshold(example.threshold)}"]
