"""The files of the designed corruption, by what each is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nemesis.dissection.tables import TEXT
from nemesis.figures.style import PAIR
from nemesis.figures.tables import PLACE

DESIGN = ["method", "eps", "mode", "masks"]

Place = tuple[str, str, str]
Files = Mapping[tuple, str]


@dataclass(frozen=True)
class Attacks:
    """What was attacked and how it was looked at.

    `null_churn` has null_churn.csv by place, (probe, model, layer). By design, (*place, method, eps, mode, masks):
    `dissection` and `budget` of all, `storage` and `collateral` of those that were looked at. `minimum` has the
    minimum epsilon, tried up to `highest`, by (*place, method, masks). Units count from a clean IoU of `min_iou` on.
    """

    null_churn: Mapping[Place, str]
    dissection: Files
    min_iou: float
    seed: int
    budget: Files = field(default_factory=dict)
    storage: Files = field(default_factory=dict)
    collateral: Files = field(default_factory=dict)
    minimum: Files = field(default_factory=dict)
    budgets: Sequence[float] = ()
    storages: Sequence[str] = ()
    highest: int = 0

    def read(self, path) -> pd.DataFrame:
        """One of the CSV files: its attacked units with a label only (where the file tells)."""
        rows = read_outcomes(path)
        return rows[rows["clean_iou"] >= self.min_iou] if "clean_iou" in rows else rows

    def read_churn(self) -> dict[Place, pd.DataFrame]:
        """The null churn of every attacked layer."""
        return {place: read_outcomes(path) for place, path in self.null_churn.items()}


def read_outcomes(path) -> pd.DataFrame:
    """Read a CSV file of what a corruption did: text as text, all else as numbers (true is 1, nothing NaN)."""
    rows = pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys(TEXT, str))
    for name in rows.columns.difference(TEXT):
        rows[name] = rows[name].replace("", np.nan).astype(float)
    return rows


def name_design(key: tuple) -> dict:
    """The columns of a design in a table: (probe, model, layer, method, eps, mode, masks) by name."""
    return dict(zip([*PLACE, *DESIGN], key, strict=True))


def group_layers(files: Files) -> dict[tuple, dict[Place, str]]:
    """The layers of each network together: {(probe, model, *setting): {place: file}}, network by network."""
    pairs = list(dict.fromkeys(key[: len(PAIR)] for key in files))
    found: dict[tuple, dict[Place, str]] = {}
    for key, path in sorted(files.items(), key=lambda item: pairs.index(item[0][: len(PAIR)])):
        found.setdefault((*key[: len(PAIR)], *key[len(PLACE) :]), {})[key[: len(PLACE)]] = path
    return found


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
