"""Descriptions before and after a corruption: how alike they are, and which units count as manipulated."""

import contextlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from nemesis.errors import InputError
from nemesis.rows import read_sheet

NO_TARGET = -1
OWN = ("unit", "description", "score")
SETTING = ("fraction", "seed", "replicate", "count", "control")  # columns that tell one corruption from another
# Columns of a table of scores that one kind of corruption has and another has not.
OF_KIND = {"null": ["replicate"], "noise": ["fraction", "seed"]}
OF_KIND["designed"] = ["count", "control", "target_unit", "target", "target_f1", "target_hit"]
SCORED = ["unit", "clean", "corrupted", "f1", "manipulated"]  # that every one has
FIRST = [*OF_KIND["null"], *OF_KIND["noise"], *OF_KIND["designed"][:3]]
TEXT = ["clean", "corrupted", "target"]
WHOLE = ["unit", "count", "seed", "replicate", "control", "target_unit", "n_images"]


def read_texts(path, columns) -> tuple[pd.DataFrame, list[int]]:
    """A CSV file with every value as text, an empty one too, and the line of each row.

    Raises InputError as `nemesis.rows.read_rows` does, naming file and line.
    """
    header, rows = read_sheet(path, columns)
    return pd.DataFrame([row for _, row in rows], columns=header, dtype=str), [line for line, _ in rows]


def read_descriptions(path) -> pd.DataFrame:
    """A descriptions.csv: unit (int), description (text, may be empty) and what else it has, as numbers.

    Raises InputError naming file and line.
    """
    table, lines = read_texts(path, ["unit", "description"])
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
) -> pd.DataFrame:
    """One row per row of `corrupted`: its columns, unit, clean, corrupted, precision, recall, f1, manipulated.

    The clean description is the reference. manipulated: f1 <= threshold, unless both texts are equal (two
    empty ones have f1 0). With a column target_unit (-1: none) also target (that unit's clean description),
    target_f1 (of the corrupted one; empty without target) and target_hit (target_f1 > threshold).
    Every clean unit must occur in every setting, unless there is a column target_unit: attacks are on few
    units. `names` of the two files stand in errors. Raises InputError where a unit is missing, or occurs
    twice in the clean table.
    """
    before = _index_clean(clean, names[0])
    _check_units(before, corrupted, names)
    if "target_unit" not in corrupted:
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
        raise InputError(f"{name}: unit {twice.iloc[0]} occurs twice; expected one row per unit")
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


def join_scores(parts: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """One table of what `score_descriptions` gave, by (layer, corruption), in the order given.

    Columns: layer, corruption, and all those of the parts; what a corruption has not is empty. A corruption is `null`
    (the clean probe resampled), or as in a path: `noise/gaussian-0.05`, `designed/pgd-6-untargeted-exemplars`.
    """
    joined = []
    for (layer, corruption), rows in parts.items():
        kinds = dict.fromkeys(rows.select_dtypes("integer"), "Int64")
        kinds |= dict.fromkeys(rows.select_dtypes("bool"), "boolean")
        joined.append(rows.astype(kinds).assign(layer=layer, corruption=corruption))
    table = pd.concat(joined, ignore_index=True) if joined else pd.DataFrame(columns=SCORED)
    first = ["layer", "corruption", *(name for name in FIRST if name in table)]
    return table.reindex(columns=[*first, *table.columns.difference(first, sort=False)])


def split_scores(path) -> dict[tuple[str, str], pd.DataFrame]:
    """The parts of a table that `join_scores` made, by (layer, corruption), each with its own columns only.

    Text as text and all else as numbers (true is 1, nothing NaN). A corruption without rows is not there.
    Raises InputError for a file that is something else.
    """
    rows, found = read_strings(path, ["layer", "corruption", *SCORED]), {}
    for (layer, corruption), part in rows.groupby(["layer", "corruption"], sort=False):
        kind = parse_corruption(corruption, path)[0]
        check_columns(path, rows, OF_KIND[kind][:2])
        foreign = {name for other, names in OF_KIND.items() if other != kind for name in names}
        own = [name for name in rows if name not in ("layer", "corruption") and name not in foreign]
        found[layer, corruption] = to_numbers(part[own].reset_index(drop=True))
    return found


def read_scores(tables: Mapping[tuple[str, str], str]) -> dict[tuple, pd.DataFrame]:
    """Scores of descriptions from the tables of (probe, model) pairs, by place and corruption.

    A key is (probe, model, layer, "null"), (probe, model, layer, kind, std) or (probe, model, layer, method, eps, mode,
    masks); its rows are those of `split_scores`.
    """
    return {
        (*pair, layer, *parse_corruption(corruption, path)[1]): rows
        for pair, path in tables.items()
        for (layer, corruption), rows in split_scores(path).items()
    }


def parse_corruption(name: str, path) -> tuple[str, tuple]:
    """The kind of a corruption (null, noise or designed), and what tells it from others: (kind, std) of noise.

    Raises InputError naming the file at `path` when there is no such corruption.
    """
    kind, _, setting = name.partition("/")
    with contextlib.suppress(ValueError):
        if kind == "null" and not setting:
            return kind, ("null",)
        first, rest = setting.split("-", 1)
        if kind == "noise":
            return kind, (first, float(rest))
        if kind == "designed":
            eps, mode, masks = rest.rsplit("-", 2)
            return kind, (first, float(eps), mode, masks)
    raise InputError(f"{path}: '{name}' is no corruption; delete it and run again")


def read_strings(path, columns) -> pd.DataFrame:
    """One of our own CSV files with every value as text. Raises InputError when it lacks one of `columns`."""
    rows = pd.read_csv(path, keep_default_na=False, dtype=str)
    check_columns(path, rows, columns)
    return rows


def check_columns(path, rows: pd.DataFrame, columns):
    """Raise InputError when the rows of the file at `path` lack one of `columns`."""
    missing = [name for name in columns if name not in rows]
    if missing:
        raise InputError(f"{path}: has no column '{missing[0]}'; delete it and run again")


def to_numbers(rows: pd.DataFrame, text=TEXT) -> pd.DataFrame:
    """Rows of text with all columns but those of `text` as numbers: true is 1, nothing is NaN, numbers of things whole.

    A column that cannot be read so stays text.
    """
    rows = rows.copy()
    for name in rows.columns.difference(text):
        with contextlib.suppress(ValueError):
            rows[name] = rows[name].replace({"": "nan", "True": "1", "False": "0"}).astype(float)
            if name in WHOLE and rows[name].notna().all():
                rows[name] = rows[name].astype(int)
    return rows
