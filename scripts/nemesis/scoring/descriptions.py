"""Descriptions before and after a corruption: how alike they are, and which units count as manipulated."""

import numpy as np
import pandas as pd

from nemesis.errors import InputError
from nemesis.scoring.tables import read_table

NO_TARGET = -1
OWN = ("unit", "description", "score")
SETTING = ("fraction", "seed", "replicate", "count", "control")  # columns that tell one corruption from another


def read_descriptions(path) -> pd.DataFrame:
    """A descriptions.csv: unit (int), description (text, may be empty) and what else it has, as numbers.

    Raises InputError naming file and line.
    """
    table, lines = read_table(path, ["unit", "description"])
    units = pd.to_numeric(table["unit"], errors="coerce")
    bad = np.flatnonzero(~(units % 1 == 0))
    if len(bad):
        row = bad[0]
        raise InputError(f"{path}: line {lines[row]}: unit is '{table['unit'].iloc[row]}'; expected a whole number")
    table["unit"] = units.astype(int)
    for column in table.columns.difference(["unit", "description"]):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if numbers.notna().all():
            table[column] = numbers
    return table


def score_descriptions(
    clean: pd.DataFrame,
    corrupted: pd.DataFrame,
    scorer,
    threshold: float,
    *,
    idf_from: list[str] | None = None,
    names: tuple[str, str] = ("the clean descriptions", "the corrupted descriptions"),
    complete: bool | None = None,
) -> pd.DataFrame:
    """One row a row of `corrupted`: its columns, unit, clean, corrupted, precision, recall, f1, manipulated.

    The clean description is the reference. manipulated: f1 <= threshold, unless both texts are equal (two
    empty ones have f1 0). With a column target_unit (-1: none) also target (that unit's clean description),
    target_f1 (of the corrupted one; empty without target) and target_hit (target_f1 > threshold).
    `complete`: every clean unit must occur in every setting; None: unless there is a column target_unit, for
    attacks are on few units. `names` of the two files stand in errors. Raises InputError where a unit is
    missing, or occurs twice in the clean table.
    """
    before = _index_clean(clean, names[0])
    _check_units(before, corrupted, names)
    if complete or (complete is None and "target_unit" not in corrupted):
        _check_settings(before, corrupted, names)
    extra = [column for column in corrupted.columns if column not in OWN]
    rows = corrupted[[*extra, "unit"]].reset_index(drop=True)
    rows["clean"] = before.loc[corrupted["unit"]].to_numpy()
    rows["corrupted"] = corrupted["description"].to_numpy()
    scores = scorer.score(rows["corrupted"], rows["clean"], idf_from)
    rows = pd.concat([rows, scores], axis=1)
    rows["manipulated"] = (rows["f1"] <= threshold) & (rows["clean"] != rows["corrupted"])
    if "target_unit" in extra:
        rows = rows.join(_score_targets(rows, before, scorer, threshold, idf_from))
    return rows


def _index_clean(clean: pd.DataFrame, name: str) -> pd.Series:
    """Clean description by unit."""
    twice = clean["unit"][clean["unit"].duplicated()]
    if len(twice):
        raise InputError(f"{name}: unit {twice.iloc[0]} occurs twice; expected one row a unit")
    return clean.set_index("unit")["description"]


def _check_units(before: pd.Series, corrupted: pd.DataFrame, names):
    """Every unit of the corrupted table, and every target, has a clean description."""
    for column in ("unit", "target_unit"):
        if column in corrupted:
            known = before.index if column == "unit" else [*before.index, NO_TARGET]
            missing = corrupted[column][~corrupted[column].isin(known)]
            if len(missing):
                raise InputError(
                    f"{names[0]}: lacks unit {missing.iloc[0]}, which is a {column} of {names[1]};"
                    " delete both files and run again"
                )


def _check_settings(before: pd.Series, corrupted: pd.DataFrame, names):
    """Every setting has every clean unit."""
    columns = [column for column in SETTING if column in corrupted]
    parts = list(corrupted.groupby(columns)) if columns else [((), corrupted)]
    for values, part in parts or [((), corrupted)]:
        missing = before.index.difference(part["unit"])
        if len(missing):
            setting = ", ".join(f"{column} {value}" for column, value in zip(columns, values, strict=False))
            where = f" at {setting}" if setting else ""
            raise InputError(
                f"{names[1]}: lacks unit {min(missing)}{where}, which is in {names[0]}; delete both files and run again"
            )


def _score_targets(rows: pd.DataFrame, before: pd.Series, scorer, threshold: float, idf_from) -> pd.DataFrame:
    """Columns target, target_f1, target_hit of scored rows."""
    aimed = (rows["target_unit"] != NO_TARGET).to_numpy()
    target = np.full(len(rows), "", dtype=object)
    target[aimed] = before.loc[rows["target_unit"][aimed]].to_numpy()
    f1 = np.full(len(rows), np.nan)
    f1[aimed] = scorer.score(rows["corrupted"][aimed], list(target[aimed]), idf_from)["f1"]
    hit = np.nan_to_num(f1, nan=-np.inf) > threshold
    return pd.DataFrame({"target": target, "target_f1": f1, "target_hit": hit}, index=rows.index)
