"""From which F1 on do two descriptions name the same concept? A cut-off from pairs that are labelled.

Two descriptions count as different, a unit as manipulated, when their F1 is at most the threshold. A false
positive is a pair of one concept that counts as different, a false negative a pair of two concepts
that does not. The threshold is where both are equally frequent (as the paper chose 0.642 with 500 pairs).
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from nemesis.errors import InputError
from nemesis.files import atomic_file
from nemesis.scoring.bleu import normalise
from nemesis.scoring.descriptions import read_texts

STREAM = 0x70616972
PAIR_COLUMNS = ["first", "second", "same"]
REGION_COLUMNS = ["image", "category", "number", "description"]
TRIES = 100
TRUTH = {"0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class Calibration:
    """A threshold and its errors on labelled pairs; rates are of the same and of the different pairs."""

    threshold: float
    false_positive_rate: float | None
    false_negative_rate: float | None
    n_same: int
    n_different: int


def measure_errors(f1, same, threshold: float) -> Calibration:
    """Error rates of a threshold on pairs with scores `f1` (n,) and truth `same` (n,); None without pairs."""
    f1, same = np.asarray(f1, float), np.asarray(same, bool)
    different = f1 <= threshold
    positive = float(different[same].mean()) if same.any() else None
    negative = float((~different[~same]).mean()) if not same.all() else None
    return Calibration(float(threshold), positive, negative, int(same.sum()), int((~same).sum()))


def find_threshold(f1, same) -> Calibration:
    """The threshold at which the rates of false positives and false negatives are equal, or nearest to it.

    It lies half-way between two neighbouring scores; of equally good ones the one with fewest errors,
    then the one in the middle. Raises InputError without pairs of both kinds, or when all scores are equal.
    """
    f1, same = np.asarray(f1, float), np.asarray(same, bool)
    if same.all() or not same.any():
        raise InputError(
            f"pairs: {int(same.sum())} are of one concept, {int((~same).sum())} of two; expected some of each"
        )
    levels = np.unique(f1)
    if len(levels) < 2:
        raise InputError(f"pairs: all {len(f1)} have F1 {levels[0]:.4g}; this scorer cannot tell them apart")
    cuts = (levels[:-1] + levels[1:]) / 2
    positive = np.searchsorted(np.sort(f1[same]), cuts, side="right") / same.sum()
    negative = 1 - np.searchsorted(np.sort(f1[~same]), cuts, side="right") / (~same).sum()
    gap, errors = np.round(np.abs(positive - negative), 12), np.round(positive + negative, 12)
    best = np.flatnonzero(gap == gap.min())
    best = best[errors[best] == errors[best].min()]
    return measure_errors(f1, same, cuts[best[(len(best) - 1) // 2]])


def read_pairs(path) -> pd.DataFrame:
    """Labelled pairs: columns first, second (texts) and same (bool). Raises InputError naming file and line."""
    table, lines = read_texts(path, PAIR_COLUMNS)
    labels = table["same"].str.strip().str.lower()
    bad = np.flatnonzero(~labels.isin(list(TRUTH)))
    if len(bad):
        row = bad[0]
        raise InputError(f"{path}: line {lines[row]}: same is '{table['same'].iloc[row]}'; expected 1 or 0")
    return table[["first", "second"]].assign(same=labels.map(TRUTH).astype(bool))


def pairs_from_regions(path, count: int = 500, seed: int = 0) -> pd.DataFrame:
    """Draw labelled pairs from descriptions of regions whose concept is known (minibroden's descriptions.csv).

    Half of them: two images' texts for one concept, each concept equally often, never the same words. Half:
    texts for two concepts, every other time of one category, so that they do not differ by their phrasing.
    Raises InputError when the file has too few concepts or texts.
    """
    regions, _ = read_texts(path, REGION_COLUMNS)
    regions = regions.assign(text=regions["description"].map(normalise))
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    concepts = {number: part for number, part in regions.groupby("number") if part["text"].nunique() > 1}
    category = {number: part["category"].iloc[0] for number, part in concepts.items()}
    if len(concepts) < 2:
        raise InputError(f"{path}: {len(concepts)} concepts with two different descriptions; expected at least 2")
    pairs = [_draw_same(concepts, rng, path) for _ in range(count // 2)]
    pairs += [_draw_different(concepts, category, rng, bool(index % 2)) for index in range(count - count // 2)]
    return pd.DataFrame(pairs, columns=PAIR_COLUMNS)


def _draw_same(concepts: dict, rng, path) -> tuple:
    numbers = list(concepts)
    for _ in range(TRIES):
        part = concepts[numbers[rng.integers(len(numbers))]]
        first, second = (part.iloc[row] for row in rng.choice(len(part), 2, replace=False))
        if first["image"] != second["image"] and first["text"] != second["text"]:
            return first["description"], second["description"], True
    raise InputError(f"{path}: hardly any concept has different descriptions in two images; expected most to")


def _draw_different(concepts: dict, category: dict, rng, alike: bool) -> tuple:
    numbers = list(concepts)
    first = numbers[rng.integers(len(numbers))]
    others = [number for number in numbers if number != first]
    kin = [number for number in others if category[number] == category[first]]
    second = rng.choice(kin if alike and kin else others)
    texts = [concepts[number]["description"] for number in (first, second)]
    return *(part.iloc[rng.integers(len(part))] for part in texts), False


def choose_pairs(setting, path, seed: int) -> tuple[pd.DataFrame, str]:
    """The pairs that a config's `milan.threshold` asks for, and in words where the threshold comes from.

    {pairs: ...}: `path` holds labelled pairs; calibrated: `path` is a descriptions.csv from which pairs are
    drawn; a number: they are drawn to measure its errors, or none where `path` is empty. Raises InputError.
    """
    if isinstance(setting, dict):
        pairs = read_pairs(path)
        return pairs, f"calibrated on the {len(pairs)} labelled pairs of {path}"
    given = setting != "calibrated"
    if given and not path:
        return pd.DataFrame(columns=PAIR_COLUMNS), "given in the config, not tested on pairs"
    pairs = pairs_from_regions(path, seed=seed)
    words = "given in the config, tested on" if given else "calibrated on"
    return pairs, f"{words} {len(pairs)} pairs of known concepts from {path}"


def calibrate(setting, pairs: pd.DataFrame, scorer) -> tuple[pd.DataFrame, Calibration]:
    """Pairs with column f1, and the calibration: `setting` itself where it is a number."""
    scored = score_pairs(pairs, scorer) if len(pairs) else pairs.assign(f1=[])
    if isinstance(setting, dict) or setting == "calibrated":
        return scored, find_threshold(scored["f1"], scored["same"])
    return scored, measure_errors(scored["f1"], scored["same"], setting)


def score_pairs(pairs: pd.DataFrame, scorer) -> pd.DataFrame:
    """Pairs with column f1; idf, if the scorer uses it, is that of the pairs' texts."""
    return pairs.assign(f1=scorer.score(pairs["second"], pairs["first"], list_texts(pairs))["f1"].to_numpy())


def list_texts(pairs: pd.DataFrame) -> list[str] | None:
    """The texts in which a scorer counts token frequencies; None without pairs: the references scored."""
    return [*pairs["first"], *pairs["second"]] if len(pairs) else None


def write_threshold(calibration: Calibration, source: str, facts: dict | None, path):
    """Write threshold.json: the threshold, its error rates, whence it comes and the scorer it is for."""
    _write_json(asdict(calibration) | {"source": source, "scorer": facts}, path)


def write_facts(threshold: dict, facts: dict, path):
    """Write what stands beside scores: the threshold that they were judged by, and the scorer's facts."""
    _write_json(threshold | {"scorer": facts}, path)


def _write_json(content: dict, path):
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_threshold(path) -> dict:
    """What write_threshold wrote. Raises InputError when it is damaged."""
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        return content | {"threshold": float(content["threshold"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged or no file of calibrate_threshold; delete it and run again") from error


def check_scorer(threshold: dict, facts: dict, path):
    """Raise InputError when a threshold was calibrated with another scorer than the one with `facts`."""
    calibrated = threshold.get("scorer")
    for key in ("hash", "model_sha256"):
        if calibrated and calibrated[key] != facts[key]:
            raise InputError(
                f"{path}: calibrated with {key} {calibrated[key]}, but the scorer has {facts[key]};"
                " delete the file and run again"
            )
