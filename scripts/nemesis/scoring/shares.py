"""Shares of manipulated units, with how many units, how sure, and what happens without corruption."""

import pandas as pd

from nemesis.scoring.intervals import bootstrap_interval, wilson_interval


def summarise_noise(rows: pd.DataFrame, min_iou: float) -> pd.DataFrame:
    """One line a (fraction): shares over the units with a label, from a noise/.../dissection.csv.

    Columns: fraction, units (with a label), draws, manipulated (share), low, high (Wilson 95%, as if
    one draw had been made), all_units, manipulated_all, linf, rms (stored minus clean, 1/255).
    """
    lines = []
    for fraction, part in rows.groupby("fraction", sort=True):
        labelled = part[part["clean_iou"] >= min_iou]
        draws = part["seed"].nunique()
        units = len(labelled) // draws
        share = labelled["manipulated"].mean() if units else float("nan")
        low, high = wilson_interval(share * units if units else 0, units)
        lines.append(
            {
                "fraction": fraction,
                "units": units,
                "draws": draws,
                "manipulated": share,
                "low": low,
                "high": high,
                "all_units": len(part) // draws,
                "manipulated_all": part["manipulated"].mean(),
                "linf": part["linf"].max(),
                "rms": part["rms"].mean(),
            }
        )
    return pd.DataFrame(lines)


def summarise_null(churn: pd.DataFrame, units, seed: int) -> dict:
    """Null churn over `units`: mean share of bootstrap replicates with another label, 95% interval."""
    part = churn[churn["unit"].isin(units)]
    by_unit = part.groupby("unit")["changed"].mean()
    low, high = bootstrap_interval(by_unit, seed)
    mean = by_unit.mean() if len(by_unit) else float("nan")
    return {"null_churn": mean, "null_low": low, "null_high": high}
