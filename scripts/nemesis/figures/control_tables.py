"""Tables around the designed corruption: smallest size, storage, what else it changes."""

import math

import pandas as pd

from nemesis.figures.attacks import Attacks, describe
from nemesis.figures.designed_tables import order_categories, show_shares
from nemesis.scoring.designed import (
    CONTROL,
    summarise_minimum,
    summarise_outcome,
    summarise_quality,
    summarise_rate,
    summarise_share,
    trace_minimum,
)

ALL = "all"
RATES = {
    ("others_changed", "others"): ("others_changed", "others_low", "others_high"),
    ("noise_others_changed", "others"): ("noise_others_changed", "noise_others_low", "noise_others_high"),
    ("top1_changed", "n_poisoned"): ("top1_changed", "top1_low", "top1_high"),
    ("noise_top1_changed", "n_poisoned"): ("noise_top1_changed", "noise_top1_low", "noise_top1_high"),
}


def minimum_table(attacks: Attacks) -> pd.DataFrame:
    """One line a layer (category `all`), then one a clean category (layer `all`): median, share not changed."""
    groups = _group_minimum(attacks)
    return pd.DataFrame([keys | summarise_minimum(values, attacks.highest) for keys, values in groups])


def show_minimum(table: pd.DataFrame) -> pd.DataFrame:
    """The table for readers: a median above the highest eps tried says so."""
    shown = show_shares(table)
    values = zip(*(table[name] for name in ("units", "median_epsilon", "highest")), strict=True)
    shown["median_epsilon"] = [_describe_median(*line) for line in values]
    return shown


def minimum_curve(attacks: Attacks) -> pd.DataFrame:
    """The same groups, a line an eps: share of the units that this eps or a smaller one changed."""
    parts = []
    for keys, values in _group_minimum(attacks):
        part = trace_minimum(values, attacks.highest)
        for place, (name, value) in enumerate(keys.items()):
            part.insert(place, name, value)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def storage_table(attacks: Attacks) -> pd.DataFrame:
    """One line a (layer, design, storage): share manipulated, and by the storage alone."""
    lines = []
    for place in attacks.places():
        for design in attacks.compared:
            rows = attacks.read(place, design, "storage.csv")
            for storage in attacks.storages:
                part = rows[rows["storage"] == storage]
                line = place | describe(design) | {"storage": storage}
                line |= summarise_outcome(part, design["mode"] == "targeted") | summarise_share(part, CONTROL)
                lines.append(line | summarise_quality(part) | summarise_quality(part, "control_"))
    return pd.DataFrame(lines)


def collateral_table(attacks: Attacks) -> pd.DataFrame:
    """One line a (layer, design): other units and predictions that one attack's images change, on average.

    `units` were attacked, with `attacks` sets of images: one for all of them in mode `shared`.
    """
    lines = []
    for place in attacks.places():
        for design in attacks.watched:
            attacked = attacks.read(place, design, "dissection.csv")["unit"]
            rows = attacks.read(place, design, "collateral.csv")
            rows = rows[rows["unit"].isin(attacked) | ((rows["unit"] == -1) & (len(attacked) > 0))]
            line = place | describe(design) | {"units": attacked.nunique(), "attacks": len(rows)}
            line |= {"images": rows["n_poisoned"].mean(), "others": rows["others"].mean()}
            for (column, total), names in RATES.items():
                line |= summarise_rate(rows, column, total, attacks.seed, names)
            lines.append(line | {name: rows[name].mean() for name in ("clean_accuracy", "accuracy")})
    return pd.DataFrame(lines)


def show_collateral(table: pd.DataFrame) -> pd.DataFrame:
    """The table for readers: rates with their interval and the number of attacks."""
    return show_shares(table, "attacks", {names[0]: names[1:] for names in RATES.values()})


def _group_minimum(attacks: Attacks) -> list[tuple[dict, pd.Series]]:
    """Minimum epsilon of the units of each layer, and of each category with all layers together."""
    groups = []
    for pair, places in attacks.groups():
        for setting in attacks.bisected:
            keys = {name: setting[name] for name in ("method", "masks")}
            parts = [attacks.read_minimum(place, setting) for place in places]
            for place, part in zip(places, parts, strict=True):
                groups.append((place | keys | {"category": ALL}, part["minimum_epsilon"]))
            rows = pd.concat(parts)
            for category in order_categories(rows["clean_category"]):
                values = rows.loc[rows["clean_category"] == category, "minimum_epsilon"]
                groups.append((pair | {"layer": ALL} | keys | {"category": category}, values))
    return groups


def _describe_median(units: int, median: float, highest: float) -> str:
    if not units:
        return "-"
    return f"> {highest:g}" if math.isnan(median) else f"{median:g}"
