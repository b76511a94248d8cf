"""Tables of MILAN's descriptions: how similar they are after a corruption, beside the controls."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nemesis.figures.designed_tables import INTERVALS, show_shares
from nemesis.figures.tables import PLACE, write_table
from nemesis.perturb.noise import name_noise
from nemesis.scoring.descriptions import SCORED, read_scores, read_strings, to_numbers
from nemesis.scoring.designed import count_units
from nemesis.scoring.milan import (
    DROP,
    THRESHOLD,
    describe_threshold,
    name_mean,
    sample_scores,
    summarise_drop,
    summarise_scores,
    summarise_spread,
    summarise_target,
    threshold_columns,
)

PUBLISHED = Path(__file__).parent / "published" / "milan_claims.csv"
PREDICTED = ["unit", "count", "n_images", "top1_changed", "clean_accuracy", "accuracy"]
NOISE = ["kind", "std", "fraction"]
DESIGN = ["method", "eps", "mode"]
SAMPLED = 20  # rows of Table 4
MEANS = [name_mean(name, prefix) for name in ("f1", "target_f1") for prefix in ("", "noise", "null")] + [DROP]
SHARES = INTERVALS | {"noise_target_hit": ("noise_hit_low", "noise_hit_high")}


@dataclass(frozen=True)
class MilanScores:
    """All scores as long tables, one row per score, with the columns of its setting (PLACE, NOISE or DESIGN) first.

    `null` are the scores of resampled clean probes; `predictions` what the network says of poisoned
    ones; `threshold` has the columns that `threshold_columns` gives.
    """

    noise: pd.DataFrame
    designed: pd.DataFrame
    null: pd.DataFrame
    predictions: pd.DataFrame
    threshold: dict
    seed: int


def gather_scores(
    tables: Mapping[tuple, str],
    predictions: Mapping[tuple, str],
    noises: Sequence[tuple],
    designs: Sequence[tuple],
    threshold,
    seed: int,
) -> MilanScores:
    """Read the scores' tables by (probe, model), the predictions by design, and the file of the threshold.

    A noise is (probe, model, layer, kind, std), a design (probe, model, layer, method, eps, mode, masks).
    """
    scores = read_scores(tables)
    null = {key: rows for key, rows in scores.items() if key[len(PLACE) :] == ("null",)}
    answers = {key: read_predictions(path) for key, path in predictions.items()}
    noisy, attacked = ({key: scores[key] for key in keys if key in scores} for keys in (noises, designs))
    return MilanScores(
        join_rows(noisy, [*PLACE, *NOISE, "seed", *SCORED]),
        join_rows(attacked, [*PLACE, *DESIGN, "count", "control", *SCORED]),
        join_rows(null, [*PLACE, *SCORED]),
        join_rows(answers, [*PLACE, *DESIGN, *PREDICTED]),
        threshold_columns(threshold),
        seed,
    )


def read_predictions(path) -> pd.DataFrame:
    """A predictions.csv (see nemesis.milan.predictions), all of it as numbers. InputError when it lacks a column."""
    return to_numbers(read_strings(path, PREDICTED))


def join_rows(parts: Mapping[tuple, pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The rows of several places and corruptions below each other, each with its setting in front.

    Without any: none, with these `columns`.
    """
    found = [pd.DataFrame(name_setting(key) | rows.to_dict("series"), index=rows.index) for key, rows in parts.items()]
    return pd.concat(found or [pd.DataFrame(columns=columns)], ignore_index=True)


def name_setting(key: tuple) -> dict:
    """The columns of a place, a noise or a design; whose masks are those of exemplars."""
    names = {4: [], 5: NOISE[:2], 7: DESIGN}[len(key)]
    return dict(zip([*PLACE, *names], key, strict=False))


def table_1(scores: MilanScores) -> pd.DataFrame:
    """One line per (layer, noise): mean and spread of F1-BERT, share manipulated, the null beside.

    `drop` is by how much the mean lies below that of the null.
    """
    lines = []
    for keys, rows in scores.noise.groupby([*PLACE, *NOISE], sort=False):
        line = dict(zip([*PLACE, *NOISE], keys, strict=True))
        null = null_of(scores, line, rows["unit"])
        line |= {"units": count_units(rows), "draws": rows["seed"].nunique()} | summarise_scores(rows, scores.seed)
        line |= summarise_spread(rows) | summarise_scores(null, scores.seed, "null")
        lines.append(line | summarise_drop(null, rows, scores.seed) | end_line(scores))
    return pd.DataFrame(lines)


def table_3(scores: MilanScores) -> pd.DataFrame:
    """One line per (layer, design, number of poisoned images): the same, beside noise of that size on the same images.

    `count` is the number of images asked for, `images` the mean of what there was; a unit with fewer images counts
    with all of them. `drop` is by how much the mean F1-BERT lies below that under the noise.
    """
    lines = []
    for keys, rows in carry_counts(number_steps(scores.designed)).groupby([*PLACE, *DESIGN, "step"], sort=False):
        line = dict(zip([*PLACE, *DESIGN], keys[:-1], strict=True))
        attacked, noisy = (rows[rows["control"] == control] for control in (0, 1))
        line |= {"count": int(rows["count"].max()), "images": attacked["count"].mean(), "units": count_units(attacked)}
        line |= summarise_scores(attacked, scores.seed) | summarise_spread(attacked)
        line |= summarise_scores(noisy, scores.seed, "noise") | summarise_drop(noisy, attacked, scores.seed)
        line |= summarise_target(attacked, scores.seed) | summarise_target(noisy, scores.seed, "noise")
        line |= summarise_scores(null_of(scores, line, attacked["unit"]), scores.seed, "null")
        lines.append(line | end_line(scores))
    return pd.DataFrame(lines)


def table_4(scores: MilanScores) -> pd.DataFrame:
    """Descriptions before and after, drawn over the range of scores: one line per unit under one corruption."""
    noise = scores.noise[scores.noise["fraction"] == scores.noise["fraction"].max()]
    designed = last_counts(number_steps(scores.designed))
    designed = designed[designed["control"] == 0]
    parts = [
        rows.assign(corruption=[describe_setting(row) for row in rows.to_dict("records")])
        for rows in (noise, designed)
        if len(rows)
    ]
    columns = [*PLACE, "unit", "corruption", "clean", "corrupted", "f1", "manipulated"]
    rows = pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)
    return sample_scores(rows, SAMPLED, scores.seed).assign(**end_line(scores))


def figure_5(scores: MilanScores) -> pd.DataFrame:
    """One line per (layer, design, unit, number of poisoned images): the network's answers, the description's score.

    `agreement` is the share of the probe's images whose most likely class is that of the clean image;
    `accuracy` and `clean_accuracy` stay empty where the probe has no classes.
    """
    keys = [*PLACE, *DESIGN, "unit", "step"]
    scored, lines = number_steps(scores.designed), number_steps(scores.predictions)
    for control, prefix in ((0, ""), (1, "noise_")):
        part = scored.loc[scored["control"] == control, [*keys, "f1", "manipulated"]]
        lines = lines.merge(part.rename(columns={name: prefix + name for name in SCORED[-2:]}), on=keys, how="left")
    lines["agreement"] = 1 - lines["top1_changed"].astype(float) / lines["n_images"].astype(float)
    return lines.drop(columns="step").assign(**end_line(scores))


def select_noise(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """What Figure 2 shows of Table 1: the first kind of noise by `layer` on most images, by `fraction` when loudest."""
    part = table[table["kind"] == table["kind"].iloc[0]]
    other = {"layer": "fraction", "fraction": "std"}[by]
    return part[part[other] == part[other].max()]


def select_designed(table: pd.DataFrame) -> pd.DataFrame:
    """What Figure 6 shows of Table 3: untargeted, with the largest number of poisoned images."""
    return table[table["mode"] == "untargeted"].groupby([*PLACE, *DESIGN], sort=False).tail(1)


def number_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `step`: the place of a row's count among those of its unit; rows sorted by design and step."""
    keys = [name for name in (*PLACE, *DESIGN, "control", "unit", "target_unit") if name in rows]
    step = rows.sort_values("count", kind="stable").groupby(keys, sort=False).cumcount()
    return _sort_steps(rows.assign(step=step.reindex(rows.index)))


def carry_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows (that have a `step`), and the last one of a unit with fewer steps than others of its design again."""
    last = last_counts(rows)
    most = last.groupby([*PLACE, *DESIGN])["step"].transform("max")
    steps = range(1, int(most.max()) + 1 if len(last) else 0)
    carried = [last[(last["step"] < step) & (step <= most)].assign(step=step) for step in steps]
    return _sort_steps(pd.concat([rows, *carried], ignore_index=True))


def _sort_steps(rows: pd.DataFrame) -> pd.DataFrame:
    design = rows.groupby([*PLACE, *DESIGN], sort=False).ngroup()
    return (
        rows.assign(design=design)
        .sort_values(["design", "step"], kind="stable", ignore_index=True)
        .drop(columns="design")
    )


def last_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows (that have a `step`) of each unit with the largest number of poisoned images."""
    return rows[rows["step"] == rows.groupby([*PLACE, *DESIGN, "control", "unit"])["step"].transform("max")]


def null_of(scores: MilanScores, line: dict, units) -> pd.DataFrame:
    """The null's rows of a line's layer and of these units."""
    null = scores.null
    here = (null[PLACE] == [line[name] for name in PLACE]).all(axis=1)
    return null[here & null["unit"].isin(units)]


def end_line(scores: MilanScores) -> dict:
    """The columns in which every table that uses the threshold ends: it, its error rates, and the published one."""
    return scores.threshold | {"published_threshold": read_claims()["threshold"]["published"]}


def read_claims() -> dict:
    """What the paper states, by its name: published value, scorer, source."""
    return pd.read_csv(PUBLISHED, comment="#", index_col="what").to_dict("index")


def describe_setting(row: dict) -> str:
    """The corruption of a row in words."""
    if isinstance(row.get("kind"), str):
        return f"{name_noise(row['kind'], row['std'])}, {100 * row['fraction']:g}% of the images"
    return f"{row['method']}, {row['mode']}, eps {row['eps']:g}/255, {row['count']:g} images"


def show_scores(table: pd.DataFrame) -> pd.DataFrame:
    """A table for readers: means and shares with their interval and n in one cell, without the threshold."""
    shown = table.copy()
    for name, *ends in MEANS:
        if name in shown and ends[0] in shown:
            shown[name] = [format_mean(*values) for values in table[[name, *ends]].to_numpy(float)]
            shown = shown.drop(columns=ends)
    return show_shares(shown.drop(columns=[*THRESHOLD, "published_threshold"]), intervals=SHARES)


def write_milan_table(table: pd.DataFrame, paths: Iterable):
    """Write a table to files, as their endings say: .csv, and with the threshold in words below it .md and .tex."""
    note = f"{explain_threshold(table.iloc[0])}; scorer: {table['scorer'].iloc[0]}" if len(table) else ""
    write_table(table, paths, show_scores, note)


def explain_threshold(line) -> str:
    """When a description counts as manipulated, from a table's row; and the published threshold."""
    claim, model = read_claims()["threshold"], line["scorer"].split("_")[0]
    text = f"manipulated: F1-BERT{f' ({model})' if model else ''} at most {describe_threshold(line)}"
    return f"{text}; published: {claim['published']} ({claim['scorer']})"


def format_mean(value: float, low: float, high: float) -> str:
    """A mean as `0.81 [0.76, 0.86]`; a dash when there is none."""
    if math.isnan(value):
        return "-"
    value, low, high = (round(number, 2) + 0.0 for number in (value, low, high))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
