"""Tables of the designed corruption: how many units it changed, beside the controls, and what else it changed."""

import math
from functools import partial
from pathlib import Path

import pandas as pd

from nemesis.figures.attacks import DESIGN, Attacks, group_layers, name_design
from nemesis.figures.style import PAIR
from nemesis.figures.tables import NULL, PLACE, format_share
from nemesis.scoring.designed import (
    CHANGED,
    CONTROL,
    FIXED,
    FIXED_HIT,
    HIT,
    NOISE,
    count_units,
    summarise_controls,
    summarise_minimum,
    summarise_outcome,
    summarise_quality,
    summarise_rate,
    summarise_share,
    trace_minimum,
)
from nemesis.scoring.shares import summarise_null

PUBLISHED = Path(__file__).parent / "published" / "designed_claims.csv"
CATEGORIES = ("object", "part", "scene", "texture", "material", "color")
MODES = ("untargeted", "targeted")
SHARES = (CHANGED, HIT, FIXED, FIXED_HIT, NOISE, CONTROL, NULL, ("unchanged", "low", "high"))
SHARES += tuple((side, f"{side}_low", f"{side}_high") for side in (*MODES, "shared"))
INTERVALS = {names[0]: names[1:] for names in SHARES}
ALL = "all"
RATES = {
    ("others_changed", "others"): ("others_changed", "others_low", "others_high"),
    ("noise_others_changed", "others"): ("noise_others_changed", "noise_others_low", "noise_others_high"),
    ("top1_changed", "n_poisoned"): ("top1_changed", "top1_low", "top1_high"),
    ("noise_top1_changed", "n_poisoned"): ("noise_top1_changed", "noise_top1_low", "noise_top1_high"),
}


def designed_table(attacks: Attacks) -> pd.DataFrame:
    """One line per (layer, method, eps, mode, masks): shares beside noise, null churn and published value."""
    lines, churn = [], attacks.read_churn()
    for key, path in attacks.dissection.items():
        line, rows = name_design(key), attacks.read(path)
        targeted = line["mode"] == "targeted"
        line |= summarise_outcome(rows, targeted) | summarise_controls(rows, targeted)
        line |= summarise_null(churn[key[: len(PLACE)]], rows["unit"].unique(), attacks.seed)
        line |= {"margin": rows["margin"].mean(), "images": rows["n_poisoned"].mean()}
        lines.append(line | {"fraction_poisoned": rows["fraction_poisoned"].max()} | summarise_quality(rows))
    claims = read_claims()
    return pd.DataFrame(lines).merge(claims, on=claims.columns[:-1].tolist(), how="left").fillna({"published": ""})


def read_claims() -> pd.DataFrame:
    """What the paper states: probe, model, method, mode, masks and the text."""
    claims = pd.read_csv(PUBLISHED, comment="#", keep_default_na=False)
    return claims.drop(columns="source")


def table_2(designed: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 2 from the designed table: one line per (layer, eps), untargeted and targeted side by side."""
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


def select_mode(designed: pd.DataFrame, mode: str) -> pd.DataFrame:
    """The rows of one mode."""
    return designed[designed["mode"] == mode]


def category_table(attacks: Attacks) -> pd.DataFrame:
    """One line per (probe, model, design, clean category), all attacked layers together."""
    lines = []
    for key, layers in group_layers(attacks.dissection).items():
        setting = dict(zip([*PAIR, *DESIGN], key, strict=True))
        if setting["mode"] not in MODES:
            continue
        rows = pd.concat([attacks.read(path).assign(layer=place[-1]) for place, path in layers.items()])
        for category in order_categories(rows["clean_category"]):
            part = rows[rows["clean_category"] == category]
            line = setting | {"category": category} | summarise_outcome(part, setting["mode"] == "targeted")
            lines.append(line | summarise_share(part, NOISE))
    return pd.DataFrame(lines)


def order_categories(found) -> list[str]:
    """The six of Broden in the paper's order, then others that occur."""
    return [*CATEGORIES, *sorted(set(found) - {"", *CATEGORIES})]


def budget_table(attacks: Attacks) -> pd.DataFrame:
    """One line per (layer, design, budget): shares when only the most influential images are poisoned."""
    lines = []
    for key, path in attacks.budget.items():
        setting, rows = name_design(key), attacks.read(path)
        for budget in attacks.budgets:
            part = rows[(rows["budget"] - budget).abs() < 1e-9]
            line = setting | {"budget": budget} | summarise_outcome(part, setting["mode"] == "targeted")
            lines.append(line | {"images": part["n_poisoned"].mean()})
    return pd.DataFrame(lines)


def shared_table(attacks: Attacks) -> pd.DataFrame:
    """One line per (layer, method, eps, masks): one set of images for all units, beside one set for each.

    Both shares are over the units that both attacked; all of them where there was no untargeted attack.
    """
    lines, churn = [], attacks.read_churn()
    for key, path in attacks.dissection.items():
        line = name_design(key)
        if line.pop("mode") != "shared":
            continue
        place, (method, eps, _, masks) = key[: len(PLACE)], key[len(PLACE) :]
        alone, shared = attacks.dissection.get((*place, method, eps, "untargeted", masks)), attacks.read(path)
        one = attacks.read(alone) if alone else shared.iloc[:0]
        if alone:
            shared, one = shared[shared["unit"].isin(one["unit"])], one[one["unit"].isin(shared["unit"])]
        line |= {"units": count_units(shared)}
        for mode, rows in (("shared", shared), ("untargeted", one)):
            values = summarise_share(rows, CHANGED).values()
            line |= dict(zip((mode, f"{mode}_low", f"{mode}_high"), values, strict=True))
            line |= {f"{mode}_images": rows["n_poisoned"].mean()}
        lines.append(line | summarise_null(churn[place], shared["unit"], attacks.seed))
    return pd.DataFrame(lines)


def minimum_table(attacks: Attacks) -> pd.DataFrame:
    """One line per layer (category `all`), then one per clean category (layer `all`): median, share not changed."""
    groups = _group_minimum(attacks)
    return pd.DataFrame([keys | summarise_minimum(values, attacks.highest) for keys, values in groups])


def minimum_curve(attacks: Attacks) -> pd.DataFrame:
    """The same groups, one line per eps: share of the units that this eps or a smaller one changed."""
    parts = []
    for keys, values in _group_minimum(attacks):
        part = trace_minimum(values, attacks.highest)
        for place, (name, value) in enumerate(keys.items()):
            part.insert(place, name, value)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _group_minimum(attacks: Attacks) -> list[tuple[dict, pd.Series]]:
    """Minimum epsilon of the units of each layer, and of each category with all layers together."""
    groups = []
    for (probe, model, method, masks), layers in group_layers(attacks.minimum).items():
        setting = {"method": method, "masks": masks}
        parts = {place: attacks.read(path) for place, path in layers.items()}
        for place, part in parts.items():
            keys = dict(zip(PLACE, place, strict=True)) | setting | {"category": ALL}
            groups.append((keys, part["minimum_epsilon"]))
        rows = pd.concat(list(parts.values()))
        for category in order_categories(rows["clean_category"]):
            keys = {"probe": probe, "model": model, "layer": ALL} | setting | {"category": category}
            groups.append((keys, rows.loc[rows["clean_category"] == category, "minimum_epsilon"]))
    return groups


def storage_table(attacks: Attacks) -> pd.DataFrame:
    """One line per (layer, design, storage): share manipulated, and by the storage alone."""
    lines = []
    for key, path in attacks.storage.items():
        setting, rows = name_design(key), attacks.read(path)
        for storage in attacks.storages:
            part = rows[rows["storage"] == storage]
            line = setting | {"storage": storage} | summarise_outcome(part, setting["mode"] == "targeted")
            line |= summarise_share(part, CONTROL) | summarise_quality(part) | summarise_quality(part, "control_")
            lines.append(line)
    return pd.DataFrame(lines)


def collateral_table(attacks: Attacks) -> pd.DataFrame:
    """One line per (layer, design): other units and predictions that one attack's images change, on average.

    `units` were attacked, with `attacks` sets of images: one for all of them in mode `shared`.
    """
    lines = []
    for key, path in attacks.collateral.items():
        attacked, rows = attacks.read(attacks.dissection[key])["unit"], attacks.read(path)
        rows = rows[rows["unit"].isin(attacked) | ((rows["unit"] == -1) & (len(attacked) > 0))]
        line = name_design(key) | {"units": attacked.nunique(), "attacks": len(rows)}
        line |= {"images": rows["n_poisoned"].mean(), "others": rows["others"].mean()}
        for (column, total), names in RATES.items():
            line |= summarise_rate(rows, column, total, attacks.seed, names)
        lines.append(line | {name: rows[name].mean() for name in ("clean_accuracy", "accuracy")})
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


def show_minimum(table: pd.DataFrame) -> pd.DataFrame:
    """The table of minimum epsilon for readers: a median above the highest eps tried says so."""
    shown = show_shares(table)
    values = zip(*(table[name] for name in ("units", "median_epsilon", "highest")), strict=True)
    shown["median_epsilon"] = [_describe_median(*line) for line in values]
    return shown


def _describe_median(units: int, median: float, highest: float) -> str:
    if not units:
        return "-"
    return f"> {highest:g}" if math.isnan(median) else f"{median:g}"


def show_collateral(table: pd.DataFrame) -> pd.DataFrame:
    """The table of side effects for readers: rates with their interval and the number of attacks."""
    return show_shares(table, "attacks", {names[0]: names[1:] for names in RATES.values()})


# Name of a table: how it is made from the files, or from which other table it is chosen.
MAKERS = {
    "designed": designed_table,
    "figure_4": category_table,
    "budget": budget_table,
    "minimum_epsilon": minimum_table,
    "minimum_epsilon_curve": minimum_curve,
    "storage": storage_table,
    "collateral": collateral_table,
    "shared": shared_table,
}
CHOSEN = {
    "table_2": ("designed", table_2),
    "figure_6": ("designed", partial(select_mode, mode="untargeted")),
    "targeted": ("designed", partial(select_mode, mode="targeted")),
}
# How a table is shown to readers, where that is not `show_shares`.
SHOWN = {"table_2": show_table_2, "minimum_epsilon": show_minimum, "collateral": show_collateral}
