"""Read the CSV files of the designed stage."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from nemesis.dissection.tables import TEXT

DESIGN = ["method", "eps", "mode", "masks"]


@dataclass(frozen=True)
class Attacks:
    """What was attacked and how it was looked at, from the config.

    `experiments` are {probe, model, layers}, only the attacked layers. `designs` are {method, eps, mode,
    masks, name}; `compared` and `watched` are those whose storage.csv and collateral.csv exist, `bisected`
    {method, masks} those with a minimum epsilon, tried up to `highest`.
    """

    experiments: list[dict]
    designs: list[dict]
    min_iou: float
    seed: int
    budgets: list[float] = field(default_factory=list)
    storages: list[str] = field(default_factory=list)
    compared: list[dict] = field(default_factory=list)
    watched: list[dict] = field(default_factory=list)
    bisected: list[dict] = field(default_factory=list)
    highest: int = 0
    root: str | Path = "results"

    def places(self) -> list[dict]:
        """{probe, model, layer} of every attacked layer."""
        return [place for _, places in self.groups() for place in places]

    def groups(self) -> list[tuple[dict, list[dict]]]:
        """{probe, model}, each with the places of its layers."""
        groups = []
        for experiment in self.experiments:
            pair = {name: experiment[name] for name in ("probe", "model")}
            groups.append((pair, [pair | {"layer": layer} for layer in experiment["layers"]]))
        return groups

    def folder(self, place: dict) -> Path:
        """The folder of a layer's results."""
        return Path(self.root, place["probe"], place["model"], place["layer"])

    def read(self, place: dict, design: dict, name: str) -> pd.DataFrame:
        """A CSV file of a design, its attacked units with a label only (where the file tells)."""
        rows = read_rows(self.folder(place) / "designed" / design["name"] / name)
        return rows[rows["clean_iou"] >= self.min_iou] if "clean_iou" in rows else rows

    def read_minimum(self, place: dict, setting: dict) -> pd.DataFrame:
        """The minimum epsilon of a layer's units with a label."""
        name = f"minimum_epsilon-{setting['method']}-{setting['masks']}.csv"
        rows = read_rows(self.folder(place) / "designed" / name)
        return rows[rows["clean_iou"] >= self.min_iou]


def read_rows(path) -> pd.DataFrame:
    """Read a CSV file of the designed stage: text as text, all else as numbers (true is 1, nothing NaN)."""
    rows = pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys(TEXT, str))
    for name in rows.columns.difference(TEXT):
        rows[name] = rows[name].replace("", np.nan).astype(float)
    return rows


def describe(design: dict) -> dict:
    """A design's columns in a table."""
    return {name: design[name] for name in DESIGN}


def choose_setting(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one method and one kind of masks: pgd with segmentation masks where there are such."""
    for column, first in (("method", "pgd"), ("masks", "segmentation")):
        values = table[column].unique().tolist() if len(table) else []
        if values:
            table = table[table[column] == (first if first in values else values[0])]
    return table


def name_setting(table: pd.DataFrame) -> str:
    """Method and masks of the rows that `choose_setting` chose, for a title."""
    return f"{table['method'].iloc[0]}, {table['masks'].iloc[0]} masks" if len(table) else "nothing attacked"
