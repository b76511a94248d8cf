"""Tables of the designed corruption: how many units it changed, beside the controls."""

import math
from pathlib import Path

import pandas as pd

from nemesis.figures.attacks import DESIGN, Attacks, describe, read_rows
from nemesis.figures.tables import PLACE, format_share
from nemesis.scoring.designed import (
    CHANGED,
    CONTROL,
    FIXED,
    FIXED_HIT,
    HIT,
    NOISE,
    count_units,
    summarise_controls,
    summarise_outcome,
    summarise_quality,
    summarise_share,
)
from nemesis.scoring.shares import summarise_null

PUBLISHED = Path(__file__).parent / "published" / "designed_claims.csv"
CATEGORIES = ("object", "part", "scene", "texture", "material", "color")
MODES = ("untargeted", "targeted")
NULL = ("null_churn", "null_low", "null_high")
SIDES = (*MODES, "shared")
SHARES = (CHANGED, HIT, FIXED, FIXED_HIT, NOISE, CONTROL, NULL, ("unchanged", "low", "high"))
SHARES += tuple((side, f"{side}_low", f"{side}_high") for side in SIDES)
INTERVALS = {names[0]: names[1:] for names in SHARES}


def designed_table(attacks: Attacks) -> pd.DataFrame:
    """One line a (layer, method, eps, mode, masks): shares beside noise, null churn and published value."""
    lines = []
    for place in attacks.places():
        churn = read_rows(attacks.folder(place) / "clean" / "null_churn.csv")
        for design in attacks.designs:
            rows, targeted = attacks.read(place, design, "dissection.csv"), design["mode"] == "targeted"
            line = place | describe(design) | summarise_outcome(rows, targeted) | summarise_controls(rows, targeted)
            line |= summarise_null(churn, rows["unit"].unique(), attacks.seed)
            line |= {"margin": rows["margin"].mean(), "images": rows["n_poisoned"].mean()}
            lines.append(line | {"fraction_poisoned": rows["fraction_poisoned"].max()} | summarise_quality(rows))
    claims = read_claims()
    return pd.DataFrame(lines).merge(claims, on=claims.columns[:-1].tolist(), how="left").fillna({"published": ""})


def read_claims() -> pd.DataFrame:
    """What the paper states: probe, model, method, mode, masks and the text."""
    claims = pd.read_csv(PUBLISHED, comment="#", keep_default_na=False)
    return claims.drop(columns="source")


def table_2(designed: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 2 from the designed table: a line a (layer, eps), untargeted and targeted side by side."""
    chosen = designed[(designed["method"] == "pgd") & (designed["masks"] == "segmentation")]
    lines = []
    for keys, part in chosen.groupby([*PLACE, "eps"], sort=False):
        by_mode = {line["mode"]: line for line in part.to_dict("records")}
        some = by_mode.get("untargeted") or by_mode.get("targeted")
        if some is None:
            continue
        line = dict(zip([*PLACE, "eps"], keys, strict=True)) | {"units": some["units"]}
        for mode in MODES:
            found = by_mode.get(mode, {})
            columns = (mode, f"{mode}_low", f"{mode}_high")
            line |= {column: found.get(name, math.nan) for column, name in zip(columns, CHANGED, strict=True)}
        line |= {name: by_mode.get("targeted", {}).get(name, math.nan) for name in HIT}
        line |= {name: some[name] for name in NULL}
        lines.append(line | {"published": by_mode.get("untargeted", {}).get("published", "")})
    return pd.DataFrame(lines)


def show_table_2(table: pd.DataFrame) -> pd.DataFrame:
    """Table 2 for readers: shares with interval and n."""
    shown = table[[*PLACE, "eps"]].copy()
    columns = {"untargeted": ("untargeted", "untargeted_low", "untargeted_high")}
    columns |= {"targeted": ("targeted", "targeted_low", "targeted_high"), "targeted: got the target's name": HIT}
    columns |= {"null churn": NULL}
    for title, names in columns.items():
        shown[title] = [format_share(*values) for values in table[[*names, "units"]].to_numpy()]
    shown["published"] = table["published"]
    return shown


def category_table(attacks: Attacks) -> pd.DataFrame:
    """One line a (probe, model, design, clean category), all attacked layers together."""
    lines = []
    for pair, places in attacks.groups():
        for design in attacks.designs:
            if design["mode"] not in MODES:
                continue
            parts = [attacks.read(place, design, "dissection.csv").assign(layer=place["layer"]) for place in places]
            rows, targeted = pd.concat(parts), design["mode"] == "targeted"
            for category in order_categories(rows["clean_category"]):
                part = rows[rows["clean_category"] == category]
                line = pair | describe(design) | {"category": category} | summarise_outcome(part, targeted)
                lines.append(line | summarise_share(part, NOISE))
    return pd.DataFrame(lines)


def show_shares(table: pd.DataFrame, count: str = "units", intervals: dict = INTERVALS) -> pd.DataFrame:
    """A table for readers: each share, its interval and n (column `count`) in one cell, as `12% [8, 17], n=80`.

    `intervals` names the two columns of each share's interval.
    """
    found = {name: ends for name, ends in intervals.items() if name in table and set(ends) <= set(table.columns)}
    hidden = {end for ends in found.values() for end in ends}
    shown = table.drop(columns=list(hidden))
    for name, ends in found.items():
        shown[name] = [format_share(*values) for values in table[[name, *ends, count]].to_numpy()]
    return shown


def order_categories(found) -> list[str]:
    """The six of Broden in the paper's order, then others that occur."""
    return [*CATEGORIES, *sorted(set(found) - {"", *CATEGORIES})]


def budget_table(attacks: Attacks) -> pd.DataFrame:
    """One line a (layer, design, budget): shares when only the most influential images are poisoned."""
    lines = []
    for place in attacks.places():
        for design in attacks.designs:
            rows = attacks.read(place, design, "budget.csv")
            for budget in attacks.budgets:
                part = rows[(rows["budget"] - budget).abs() < 1e-9]
                line = place | describe(design) | {"budget": budget}
                line |= summarise_outcome(part, design["mode"] == "targeted")
                lines.append(line | {"images": part["n_poisoned"].mean()})
    return pd.DataFrame(lines)


def shared_table(attacks: Attacks) -> pd.DataFrame:
    """One line a (layer, method, eps, masks): one set of images for all units, beside one set for each.

    Both shares are over the units that both attacked; all of them where there was no untargeted attack.
    """
    lines = []
    for place in attacks.places():
        churn = read_rows(attacks.folder(place) / "clean" / "null_churn.csv")
        for design in attacks.designs:
            if design["mode"] != "shared":
                continue
            alone = _find(attacks.designs, design | {"mode": "untargeted"})
            shared = attacks.read(place, design, "dissection.csv")
            one = attacks.read(place, alone, "dissection.csv") if alone else shared.iloc[:0]
            if alone:
                shared, one = shared[shared["unit"].isin(one["unit"])], one[one["unit"].isin(shared["unit"])]
            line = place | {name: design[name] for name in ("method", "eps", "masks")} | {"units": count_units(shared)}
            for mode, rows in (("shared", shared), ("untargeted", one)):
                values = summarise_share(rows, CHANGED).values()
                line |= dict(zip((mode, f"{mode}_low", f"{mode}_high"), values, strict=True))
                line |= {f"{mode}_images": rows["n_poisoned"].mean()}
            lines.append(line | summarise_null(churn, shared["unit"], attacks.seed))
    return pd.DataFrame(lines)


def _find(designs: list[dict], wanted: dict) -> dict | None:
    return next((design for design in designs if all(design[name] == wanted[name] for name in DESIGN)), None)
