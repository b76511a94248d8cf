"""How good is a captioner on units that it never saw, and is that better than a shuffled assignment?"""

import numpy as np
import pandas as pd

from nemesis.errors import InputError
from nemesis.scoring.bleu import corpus_bleu, normalise
from nemesis.scoring.descriptions import read_texts
from nemesis.scoring.intervals import bootstrap_interval

STREAM = 0x73687566
PERMUTATIONS = 20
REFERENCE = "reference_"


def read_held_out(path) -> tuple[pd.DataFrame, list[list[str]]]:
    """A held_out.csv (unit, category, description, reference_1 ...) and each unit's references, empty ones left out.

    Raises InputError naming file and line.
    """
    table, lines = read_texts(path, ["unit", "category", "description", f"{REFERENCE}1"])
    columns = [column for column in table if column.startswith(REFERENCE)]
    references = [[text for text in row if normalise(text)] for row in table[columns].to_numpy().tolist()]
    for row, texts in enumerate(references):
        if not texts:
            raise InputError(
                f"{path}: line {lines[row]}: unit {table['unit'].iloc[row]} has no reference; expected one"
            )
    if len(table) < 2:
        raise InputError(f"{path}: {len(table)} units; expected at least 2 to compare with a shuffled assignment")
    return table, references


def measure_captioner(
    table: pd.DataFrame, references: list, scorer, threshold: float, seed: int, idf_from: list[str] | None = None
) -> pd.DataFrame:
    """One row for all units, then one per category.

    Columns: category, n, precision, recall, f1, shuffled_f1, difference, low, high, same, bleu. Scores are
    means over units against their own references. shuffled_f1: against another unit's, in PERMUTATIONS
    assignments that leave no unit its own; low, high: bootstrap 95% interval, over units, of the
    difference. same: share of units with f1 > threshold. bleu in [0, 100].
    """
    descriptions, assignments = table["description"].tolist(), _draw_assignments(len(table), seed)
    compared = [references[unit] for assignment in assignments for unit in assignment]
    idf_from = idf_from or [text for texts in references for text in texts]
    found = scorer.score(descriptions * len(assignments), compared, idf_from)
    scores = found.iloc[: len(table)].copy()
    scores["shuffled_f1"] = found["f1"].to_numpy().reshape(assignments.shape)[1:].mean(axis=0)
    groups = {"all": np.arange(len(table))}
    groups |= dict(sorted(table.groupby("category").indices.items()))
    return pd.DataFrame(
        [
            {"category": name, **_summarise(scores.iloc[rows], threshold, seed), "bleu": bleu}
            for name, rows in groups.items()
            for bleu in [corpus_bleu([descriptions[row] for row in rows], [references[row] for row in rows])]
        ]
    )


def _draw_assignments(count: int, seed: int) -> np.ndarray:
    """(1 + PERMUTATIONS, count): every unit to itself, then every unit to another."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    assignments = np.tile(np.arange(count), (1 + PERMUTATIONS, 1))
    for assignment in assignments[1:]:
        order = rng.permutation(count)
        assignment[order] = np.roll(order, 1)
    return assignments


def _summarise(scores: pd.DataFrame, threshold: float, seed: int) -> dict:
    difference = scores["f1"] - scores["shuffled_f1"]
    low, high = bootstrap_interval(difference, seed)
    means = {name: float(scores[name].mean()) for name in ("precision", "recall", "f1", "shuffled_f1")}
    spread = {"difference": float(difference.mean()), "low": low, "high": high}
    return {"n": len(scores)} | means | spread | {"same": float((scores["f1"] > threshold).mean())}
