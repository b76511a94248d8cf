"""Shares of attacked units, with how many units and how sure; every share is over units with a label."""

import math

import numpy as np
import pandas as pd

from nemesis.scoring.intervals import bootstrap_interval, wilson_interval

CHANGED = ("manipulated", "low", "high")
HIT = ("target_hit", "hit_low", "hit_high")
FIXED = ("fixed_manipulated", "fixed_low", "fixed_high")
FIXED_HIT = ("fixed_target_hit", "fixed_hit_low", "fixed_hit_high")
NOISE = ("noise_manipulated", "noise_low", "noise_high")
CONTROL = ("control_manipulated", "control_low", "control_high")


def count_units(rows: pd.DataFrame) -> int:
    """How many units rows are about: a unit with several targets has a row for each."""
    return len(rows.drop_duplicates(["layer", "unit"] if "layer" in rows else ["unit"]))


def summarise_share(rows: pd.DataFrame, names: tuple[str, str, str], wanted: bool = True) -> dict:
    """Share of rows where column names[0] is true, and its Wilson 95% interval, under `names`.

    The interval is that of as many units as there are, also where a unit has several targets. NaN
    where there is no unit or the share is not `wanted` (no target, no noise).
    """
    units = count_units(rows)
    if not units or not wanted:
        return dict.fromkeys(names, math.nan)
    share = float(rows[names[0]].mean())
    return dict(zip(names, (share, *wilson_interval(share * units, units)), strict=True))


def summarise_outcome(rows: pd.DataFrame, targeted: bool) -> dict:
    """Units, attacks (of several targets a unit), share manipulated, and share that got the target's name."""
    counts = {"units": count_units(rows), "attacks": len(rows)}
    return counts | summarise_share(rows, CHANGED) | summarise_share(rows, HIT, targeted)


def summarise_controls(rows: pd.DataFrame, targeted: bool) -> dict:
    """Shares on the same pictures at the clean threshold, and under noise of the same size."""
    fixed = summarise_share(rows, FIXED) | summarise_share(rows, FIXED_HIT, targeted)
    return fixed | summarise_share(rows, NOISE)


def summarise_quality(rows: pd.DataFrame, prefix: str = "") -> dict:
    """linf (max), l2, psnr and ssim (means); psnr over those where anything differs, inf where nothing does."""
    if not len(rows):
        return {f"{prefix}{name}": math.nan for name in ("linf", "l2", "psnr", "ssim")}
    psnr = rows[f"{prefix}psnr"].to_numpy(float)
    finite = psnr[np.isfinite(psnr)]
    line = {"linf": rows[f"{prefix}linf"].max(), "l2": rows[f"{prefix}l2"].mean()}
    line |= {"psnr": finite.mean() if len(finite) else math.inf, "ssim": rows[f"{prefix}ssim"].mean()}
    return {f"{prefix}{name}": float(value) for name, value in line.items()}


def summarise_minimum(minimum, highest: float) -> dict:
    """Median of the smallest eps that changes a label, and the share of units that none up to `highest` changes.

    `minimum` has a value a unit, NaN where none was found. The median is NaN where it lies above `highest`.
    """
    minimum = np.asarray(minimum, float)
    minimum = np.where(minimum <= highest, minimum, math.inf)  # NaN: inf
    units, unchanged = len(minimum), int(np.isinf(minimum).sum())
    median = float(np.median(minimum)) if units else math.nan
    low, high = wilson_interval(unchanged, units)
    line = {"units": units, "median_epsilon": median if math.isfinite(median) else math.nan, "highest": highest}
    return line | {"unchanged": unchanged / units if units else math.nan, "low": low, "high": high}


def trace_minimum(minimum, highest: int) -> pd.DataFrame:
    """Share of units changed by eps or less (with interval), a line a whole eps from 0 to `highest`."""
    minimum, lines = np.asarray(minimum, float), []
    for eps in range(int(highest) + 1):
        changed, units = int((minimum <= eps).sum()), len(minimum)
        low, high = wilson_interval(changed, units)
        share = changed / units if units else math.nan
        lines.append({"eps": eps, "units": units, "manipulated": share, "low": low, "high": high})
    return pd.DataFrame(lines)


def summarise_rate(rows: pd.DataFrame, column: str, total: str, seed: int, names: tuple[str, str, str]) -> dict:
    """Mean over attacks of column / total, and its interval, under `names`.

    Bootstrap over attacks; for a single one (the shared attack) Wilson over its `total`, as nothing else varies.
    Attacks without a value (a network without classes, no other unit with a label) are left out.
    """
    known = rows[rows[column].notna() & (rows[total] > 0)]
    rates = (known[column] / known[total]).to_numpy(float)
    if len(rates) == 1:
        interval = wilson_interval(float(known[column].iloc[0]), int(known[total].iloc[0]))
    else:
        interval = bootstrap_interval(rates, seed)
    return dict(zip(names, (rates.mean() if len(rates) else math.nan, *interval), strict=True))
