"""What a run found, in three sentences: noise, designed corruption, descriptions."""

import pandas as pd

from nemesis.figures.attacks import choose_setting
from nemesis.figures.tables import PLACE
from nemesis.perturb.noise import name_noise
from nemesis.scoring.intervals import wilson_interval


def write_headline(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Three sentences from the tables by name: noise, designed, table_1 and table_3; one that is absent says so."""
    return [
        _tell_noise(tables.get("noise")),
        _tell_designed(tables.get("designed")),
        _tell_milan(tables.get("table_1"), tables.get("table_3")),
    ]


def _tell_noise(noise: pd.DataFrame | None) -> str:
    part = _loudest(noise)
    part = part[part["units"] > 0] if part is not None else None
    if part is None or part.empty:
        return "Random noise: no labels were compared."
    most = part.loc[part["manipulated"].idxmax()]
    lowest, highest = part["manipulated"].min(), part["manipulated"].max()
    shares = " to ".join(dict.fromkeys(f"{100 * share:.0f}%" for share in (lowest, highest)))
    largest = _share(most["manipulated"], most["low"], most["high"], most["units"])
    return (
        f"{_name_noise(most)}: {shares} of a layer's labelled units are called something else, most in"
        f" {_name_place(most)}: {largest}, where resampling the clean images alone changes"
        f" {100 * most['null_churn']:.0f}%."
    )


def _tell_designed(designed: pd.DataFrame | None) -> str:
    if designed is None or not designed["units"].sum():
        return "Designed corruption: no unit was attacked."
    part = choose_setting(designed)
    part = part[(part["eps"] == part["eps"].max()) & (part["units"] > 0)]
    modes = part["mode"].unique().tolist()
    mode = "untargeted" if "untargeted" in modes else modes[0]
    chosen = part[part["mode"] == mode]
    attack = f"{chosen['method'].iloc[0]}, {mode}, eps {chosen['eps'].iloc[0]:g}/255"
    text = (
        f"Designed corruption ({attack}, at most {100 * chosen['fraction_poisoned'].max():.2g}% of the images) relabels"
        f" {_pool(chosen, 'manipulated', ' attacked units')}, noise of the same size on the same images"
        f" {_pool(chosen, 'noise_manipulated')}"
    )
    aimed = part[part["mode"] == "targeted"]
    if len(aimed):
        text += f"; aimed at another concept, it gives {_pool(aimed, 'target_hit')} that concept's name"
    return text + "."


def _tell_milan(noise: pd.DataFrame | None, designed: pd.DataFrame | None) -> str:
    parts = []
    loud = _loudest(noise)
    if loud is not None and loud["units"].sum():
        text = f"{_name_noise(loud.iloc[0])}: {_pool(loud, 'manipulated', ' texts')} changed"
        if loud["null_churn"].notna().all():
            text += f", resampling alone {_pool(loud, 'null_churn')}"
        parts.append(text)
    if designed is not None and designed["units"].sum():
        part = (
            designed[designed["eps"] == designed["eps"].max()].groupby([*PLACE, "method", "mode"], sort=False).tail(1)
        )
        modes = part["mode"].unique().tolist()
        mode = "untargeted" if "untargeted" in modes else modes[0]
        part = part[(part["mode"] == mode) & (part["method"] == part["method"].iloc[0])]
        parts.append(
            f"{part['method'].iloc[0]} ({mode}, eps {part['eps'].iloc[0]:g}/255, {part['images'].max():.0f} images)"
            f" {_pool(part, 'manipulated')}, noise of the same size {_pool(part, 'noise_manipulated')}"
        )
    if not parts:
        return "Descriptions (MILAN): none were compared."
    return f"Descriptions (MILAN): {'; '.join(parts)}."


def _loudest(noise: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of the first kind of noise at its largest size and fraction."""
    if noise is None or noise.empty:
        return None
    part = noise[noise["kind"] == noise["kind"].iloc[0]]
    part = part[part["std"] == part["std"].max()]
    return part[part["fraction"] == part["fraction"].max()]


def _name_noise(row: pd.Series) -> str:
    name = name_noise(row["kind"], row["std"])
    return f"{name[0].upper()}{name[1:]}, on {100 * row['fraction']:g}% of the images"


def _name_place(row: pd.Series) -> str:
    return f"{row['layer']} of {row['model']} on {row['probe']}"


def _share(share: float, low: float, high: float, n: int) -> str:
    return f"{100 * share:.0f}% (95% interval {100 * low:.0f} to {100 * high:.0f}%, n = {n:.0f})"


def _pool(part: pd.DataFrame, name: str, what: str = "") -> str:
    """Share of all units of some rows, as `8 of 9 (89%, 57 to 98%)`; `what` stands behind the 9."""
    n = int(part["units"].sum())
    found = round((part[name].fillna(0) * part["units"]).sum())
    low, high = wilson_interval(found, n)
    return f"{found} of {n}{what} ({100 * found / n:.0f}%, {100 * low:.0f} to {100 * high:.0f}%)"
