"""Scores of descriptions before and after corruption: means and shares over units, and how sure we are of them.

Rows are those that `nemesis.scoring.descriptions.read_scores` gives: unit, clean and corrupted (text), f1,
manipulated (0 or 1).
"""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from nemesis.errors import InputError
from nemesis.scoring.designed import HIT, summarise_share
from nemesis.scoring.intervals import bootstrap_interval

STREAM = 0x74616234
BINS = 10
DROP = ("drop", "drop_low", "drop_high")
RATES = {"false_positive_rate": "false positives", "false_negative_rate": "false negatives"}
THRESHOLD = ("threshold", *RATES, "threshold_pairs", "threshold_source", "scorer")


def name_share(prefix: str = "") -> tuple[str, str, str]:
    """Columns of the share of manipulated units, and its interval; that of the null is its churn."""
    names = ("churn" if prefix == "null" else "manipulated", "low", "high")
    return tuple(f"{prefix}_{name}" for name in names) if prefix else names


def name_mean(name: str = "f1", prefix: str = "") -> tuple[str, str, str]:
    """Columns of a mean and its interval."""
    name = f"{prefix}_{name}" if prefix else name
    return name, f"{name}_low", f"{name}_high"


def summarise_mean(rows: pd.DataFrame, column: str, seed: int, names: tuple[str, str, str]) -> dict:
    """Mean over units of a column (of a unit with several rows: of their mean), and its bootstrap 95% interval."""
    by_unit = rows[rows[column].notna()].groupby("unit")[column].mean()
    low, high = bootstrap_interval(by_unit, seed)
    return dict(zip(names, (by_unit.mean() if len(by_unit) else math.nan, low, high), strict=True))


def summarise_scores(rows: pd.DataFrame, seed: int, prefix: str = "") -> dict:
    """Mean F1-BERT with bootstrap interval over units, and share manipulated with Wilson interval.

    The Wilson interval is that of as many units as there are, as if one draw had been made.
    """
    names = name_share(prefix)
    named = rows.rename(columns={"manipulated": names[0]})
    return summarise_mean(rows, "f1", seed, name_mean("f1", prefix)) | summarise_share(named, names)


def summarise_spread(rows: pd.DataFrame) -> dict:
    """Standard deviation of F1-BERT over all rows, and share of descriptions of which any word changed."""
    changed = float((rows["clean"] != rows["corrupted"]).mean()) if len(rows) else math.nan
    return {"f1_std": rows["f1"].std(), "changed": changed}


def summarise_drop(before: pd.DataFrame, after: pd.DataFrame, seed: int) -> dict:
    """How much lower the mean F1-BERT of `after` is than that of `before`, over the units that both have.

    Paired by unit, so that it can be sure where the two means alone are not.
    """
    found = [rows.groupby("unit")["f1"].mean() for rows in (before, after)]
    difference = (found[0] - found[1]).dropna().rename("f1").reset_index()
    return summarise_mean(difference, "f1", seed, DROP)


def summarise_target(rows: pd.DataFrame, seed: int, prefix: str = "") -> dict:
    """Share of attacks after which the description is that of the target, and mean F1-BERT with it; NaN without."""
    names = tuple(f"{prefix}_{name}" for name in HIT) if prefix else HIT
    if "target_hit" not in rows:
        rows = rows.assign(target_hit=math.nan, target_f1=math.nan)
    known = rows[rows["target_f1"].notna()].rename(columns={"target_hit": names[0]})
    return summarise_share(known, names) | summarise_mean(known, "target_f1", seed, name_mean("target_f1", prefix))


def sample_scores(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most `count` rows spread over the range of scores, lowest first; each pair of descriptions once.

    The range is cut into ten equal parts that take turns; within a part the seed draws.
    """
    if not len(rows):
        return rows
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    drawn = rows.iloc[rng.permutation(len(rows))].drop_duplicates(["clean", "corrupted"])
    score = drawn["f1"].to_numpy()
    span = max(np.ptp(score), np.finfo(float).tiny)
    part = np.minimum((score - score.min()) / span * BINS, BINS - 1).astype(int)
    turn = pd.Series(part).groupby(part).cumcount().to_numpy()
    return drawn.iloc[np.lexsort((part, turn))[:count]].sort_values("f1", kind="stable").reset_index(drop=True)


def threshold_columns(path) -> dict:
    """The threshold in use, its error rates and its source, and the scorer, as columns of a table (THRESHOLD).

    Raises InputError when the file is no threshold.json.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        line = {"threshold": float(found["threshold"])}
        line |= {name: math.nan if found.get(name) is None else float(found[name]) for name in RATES}
        line |= {"threshold_pairs": sum(int(found.get(name) or 0) for name in ("n_same", "n_different"))}
        return line | {"threshold_source": str(found["source"]), "scorer": name_scorer(found.get("scorer") or {})}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path}: not a threshold ({reason}); expected JSON with threshold and source; delete it and run again"
        ) from error


def name_scorer(facts: dict) -> str:
    """The scorer in a word: its hash without the folder of its weights."""
    return str(facts.get("hash") or facts.get("kind") or "").rsplit("/", 1)[-1]


def describe_threshold(line) -> str:
    """The threshold of a table's row in words: `0.61 (calibrated on 500 pairs; 9% false positives, ...)`."""
    rates = [f"{100 * line[name]:.0f}% {what}" for name, what in RATES.items() if not math.isnan(line[name])]
    return f"{line['threshold']:.3g} ({'; '.join([line['threshold_source'], *filter(None, [', '.join(rates)])])})"
