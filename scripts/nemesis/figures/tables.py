"""Tables in three formats: CSV for programs, Markdown and LaTeX for readers."""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from nemesis.figures.escape import from_markdown_text, needs_unicode, one_line, to_latex_text, to_markdown_text
from nemesis.files import atomic_file, write_csv

PLACE = ["probe", "model", "layer"]
NULL = ("null_churn", "null_low", "null_high")
CELL = re.compile(r"(?<=\| )((?:[^\\|]|\\.)*)(?= \|)")  # of a line that `to_markdown` wrote


def format_share(value: float, low: float, high: float, n: int) -> str:
    """A share as `12% [8, 17], n=80`; a dash when there is no unit or no share."""
    if not n or math.isnan(value):
        return "-"
    return f"{100 * value:.0f}% [{100 * low:.0f}, {100 * high:.0f}], n={n:.0f}"


def write_table(table: pd.DataFrame, paths: Iterable, show: Callable | None = None, note: str = ""):
    """Write a table to files, each in the format that its ending names.

    .csv has full precision; .md and .tex are rounded, or as `show(table)` has it, with `note` below. Raises
    ValueError for another ending.
    """
    shown = show(table) if show else table
    for path in map(Path, paths):
        if path.suffix == ".csv":
            write_csv(table, path)
        elif path.suffix in TEXTS:
            with atomic_file(path) as partial:
                partial.write_text(TEXTS[path.suffix](shown, note), encoding="utf-8")
        else:
            raise ValueError(f"{path}: a table is .csv, .md or .tex")


def to_markdown(table: pd.DataFrame, note: str = "") -> str:
    """A Markdown table; floats to three places, text as it is; a note of one line below it."""
    rows = [[to_markdown_text(_cell(value)) for value in row] for row in table.itertuples(index=False)]
    lines = ["| " + " | ".join(map(to_markdown_text, table.columns)) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, *(["", to_markdown_text(note)] if note else [])]) + "\n"


def read_markdown(text: str) -> tuple[list[str], list[list[str]], str]:
    """Header, rows and note of what `to_markdown` wrote, nothing escaped."""
    table, _, note = text.partition("\n\n")
    cells = [[from_markdown_text(cell) for cell in CELL.findall(line)] for line in table.removesuffix("\n").split("\n")]
    return cells[0], cells[2:], from_markdown_text(note.strip())


def to_latex(table: pd.DataFrame, note: str = "") -> str:
    """The same as a LaTeX table for the package booktabs."""
    rows = [[to_latex_text(_cell(value)) for value in row] for row in table.itertuples(index=False)]
    text = pd.DataFrame(rows, columns=[to_latex_text(name) for name in table.columns]).to_latex(index=False)
    head = "% needs \\usepackage{booktabs}\n"
    head += "% compile it with XeLaTeX or LuaLaTeX, in a font that has its signs\n" if needs_unicode(text) else ""
    return head + text + (f"% {one_line(note)}\n" if note else "")


def _cell(value) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)


TEXTS = {".md": to_markdown, ".tex": to_latex}
