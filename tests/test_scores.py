"""Scores of descriptions before and after a corruption, of a captioner, and the scripts that write them."""

import json
import logging
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from text_scorers import WORDS, WordScorer, open_minilm

from nemesis.errors import InputError
from nemesis.files import write_csv
from nemesis.scoring.bleu import corpus_bleu
from nemesis.scoring.captioner import PERMUTATIONS, measure_captioner, read_held_out
from nemesis.scoring.descriptions import (
    SCORED,
    join_scores,
    read_descriptions,
    read_scores,
    score_descriptions,
    split_scores,
)

SCRIPTS = Path(__file__).parent.parent / "scripts"
CLEAN = pd.DataFrame({"unit": [4, 1, 7], "description": ["A red car.", "a blue sky", ""], "score": [-1.0, -2.0, -3.0]})


def noisy(*texts, fraction=0.5, seed=0) -> pd.DataFrame:
    """Corrupted descriptions of units 1, 4, 7."""
    return pd.DataFrame({"unit": [1, 4, 7], "fraction": fraction, "seed": seed, "description": texts, "score": 0.0})


# Scores of descriptions.


def test_rows_are_compared_with_the_clean_description_of_their_unit():
    scorer = WordScorer()
    table = score_descriptions(CLEAN, noisy("a blue wheel", "a red car", ""), scorer, 0.6, idf_from=["x"])
    columns = ["fraction", "seed", "unit", "clean", "corrupted", "precision", "recall", "f1", "manipulated"]
    assert list(table) == columns
    assert table["unit"].tolist() == [1, 4, 7]
    assert table["clean"].tolist() == ["a blue sky", "A red car.", ""]
    assert table["corrupted"].tolist() == ["a blue wheel", "a red car", ""]
    assert table["f1"].tolist() == pytest.approx([2 / 3, 1, 0])
    assert table["manipulated"].tolist() == [False, False, False]
    assert scorer.idf_from == [["x"]]


def test_manipulated_from_the_threshold_on():
    corrupted = noisy("a blue wheel", "the wing", "a wing")
    at, below = (score_descriptions(CLEAN, corrupted, WordScorer(), level) for level in (2 / 3, 0.66))
    assert at["manipulated"].tolist() == [True, True, True]
    assert below["manipulated"].tolist() == [False, True, True]


def test_precision_is_of_the_corrupted_and_recall_of_the_clean_description():
    table = score_descriptions(CLEAN, noisy("a blue sky of the car", "a", ""), WordScorer(), 0.5)
    assert table["precision"].tolist() == pytest.approx([3 / 6, 1, 0])
    assert table["recall"].tolist() == pytest.approx([1, 1 / 3, 0])


def test_targets():
    corrupted = pd.DataFrame(
        {
            "count": [10, 10, 20],
            "target_unit": [1, -1, 1],
            "unit": [4, 4, 4],
            "description": ["a red wheel", "a red car", "a blue sky."],
        }
    )
    table = score_descriptions(CLEAN, corrupted, WordScorer(), 0.5)
    expected = ["target", "target_f1", "target_hit"]
    assert list(table)[-3:] == expected
    assert list(table)[:3] == ["count", "target_unit", "unit"]
    assert table["target"].tolist() == ["a blue sky", "", "a blue sky"]
    assert table["target_f1"].fillna(-1).tolist() == pytest.approx([1 / 3, -1, 1])
    assert table["target_hit"].tolist() == [False, False, True]
    assert table["manipulated"].tolist() == [False, False, True]


@given(st.lists(st.lists(st.sampled_from([*WORDS, ".", ""]), max_size=5).map(" ".join), min_size=3, max_size=3))
def test_unchanged_descriptions_are_never_manipulated(texts):
    clean = pd.DataFrame({"unit": [1, 4, 7], "description": texts})
    table = score_descriptions(clean, noisy(*texts), WordScorer(), 0.99)
    assert not table["manipulated"].any()


def test_embedded_scorer_on_empty_descriptions(capfd):
    table = score_descriptions(CLEAN, noisy("", "a red car", "a wing"), open_minilm(), 0.5)
    assert table["f1"].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    assert table["manipulated"].tolist() == [True, False, True]
    assert capfd.readouterr() == ("", "")


NAMES = ("clean/descriptions.csv", "noise/descriptions.csv")


@pytest.mark.parametrize(
    ("clean", "corrupted", "message"),
    [
        (CLEAN[:1], noisy("a", "b", "c"), r"clean/.*: lacks unit 1, which is a unit of noise/descriptions\.csv"),
        (CLEAN, noisy("a", "b", "c")[:2], r"noise/.*: lacks unit 7 at fraction 0\.5, seed 0, which is in clean/"),
        (CLEAN, noisy("a", "b", "c")[:0], r"noise/.*: lacks unit 1, which is in clean/"),
        (
            CLEAN,
            pd.concat([noisy("a", "b", "c"), noisy("a", "b", "c", seed=1)[1:]]),
            r"noise/.*: lacks unit 1 at fraction 0\.5, seed 1, which is in clean/",
        ),
        (pd.concat([CLEAN, CLEAN[1:2]]), noisy("a", "b", "c"), r"clean/.*: unit 1 occurs twice"),
        (
            CLEAN,
            noisy("a", "b", "c").assign(target_unit=[4, 5, -1]),
            r"clean/.*: lacks unit 5, which is a target_unit of noise/",
        ),
    ],
)
def test_units_that_do_not_match(clean, corrupted, message):
    with pytest.raises(InputError, match=message):
        score_descriptions(clean, corrupted, WordScorer(), 0.5, names=NAMES)


def test_attacks_are_on_few_units():
    attacked = noisy("a", "b", "c").assign(target_unit=-1)[:1]
    assert len(score_descriptions(CLEAN, attacked, WordScorer(), 0.5)) == 1


# The table of all scores of a network on a probe.


def score_all() -> dict:
    """Scores of two layers on resampled, noisy and attacked probes, by (layer, corruption)."""
    attacks = {
        "count": [5, 9],
        "control": 0,
        "target_unit": [4, -1],
        "unit": [1, 4],
        "description": ["a red car", "NA"],
    }
    found = {
        "null": noisy("a blue wheel", "7", "").drop(columns=["fraction", "seed"]).assign(replicate=[0, 0, 0]),
        "noise/gaussian-0.05": noisy("", "a red car", "a wing", fraction=0.1 + 0.2),
        "noise/none-0": noisy("a blue sky", "A red car.", ""),
        "designed/pgd-0.5-targeted-exemplars": pd.DataFrame(attacks),
        "designed/fgsm-1e-05-untargeted-exemplars": pd.DataFrame(attacks).assign(target_unit=-1),
    }
    return {
        (layer, name): score_descriptions(CLEAN, rows, WordScorer(), 0.6)
        for name, rows in found.items()
        for layer in ("7", "conv-2")
    }


@pytest.mark.filterwarnings("error")
def test_a_table_of_scores_gives_every_part_back(tmp_path):
    parts = score_all()
    write_csv(join_scores(parts), tmp_path / "scores.csv")
    table = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False, dtype=str)
    assert list(table)[:8] == [
        *("layer", "corruption", "replicate", "fraction", "seed", "count", "control", "target_unit")
    ]
    assert list(dict.fromkeys(zip(table["layer"], table["corruption"], strict=True))) == list(parts)
    assert set(table["replicate"]) == {"", "0"} and set(table["target_unit"]) == {"", "4", "-1"}
    assert set(table["manipulated"]) == {"True", "False"} and set(table["target_hit"]) == {"", "True", "False"}
    split = split_scores(tmp_path / "scores.csv")
    assert list(split) == list(parts)
    for key, rows in parts.items():
        assert list(split[key]) == list(rows)
        for name in rows:
            wanted = rows[name].astype(int) if rows[name].dtype == bool else rows[name]
            pd.testing.assert_series_equal(split[key][name], wanted, check_dtype=False, check_exact=True)
        assert split[key]["unit"].dtype.kind == "i" and split[key]["f1"].dtype.kind == "f"


def test_scores_by_place_and_corruption(tmp_path):
    write_csv(join_scores(score_all()), tmp_path / "scores.csv")
    found = read_scores({("scenes", "vgg"): tmp_path / "scores.csv", ("photos", "vgg"): tmp_path / "scores.csv"})
    assert len(found) == 20
    for layer in ("7", "conv-2"):
        place = ("scenes", "vgg", layer)
        assert [key[3:] for key in found if key[:3] == place] == [
            ("null",),
            ("gaussian", 0.05),
            ("none", 0),
            ("pgd", 0.5, "targeted", "exemplars"),
            ("fgsm", 1e-05, "untargeted", "exemplars"),
        ]


def test_nothing_that_was_scored(tmp_path):
    write_csv(join_scores({}), tmp_path / "scores.csv")
    assert split_scores(tmp_path / "scores.csv") == {}
    empty = {key: rows.iloc[:0] for key, rows in score_all().items()}
    write_csv(join_scores(empty), tmp_path / "scores.csv")
    assert split_scores(tmp_path / "scores.csv") == {}


@pytest.mark.parametrize(
    "name", ["noise", "noise/gaussian", "noise/gaussian-high", "designed/pgd-6", "null/1", "clean"]
)
def test_a_corruption_that_is_none(tmp_path, name):
    rows = pd.DataFrame({"layer": "conv1", "corruption": [name], "replicate": 0} | dict.fromkeys(SCORED, 0))
    write_csv(rows, tmp_path / "scores.csv")
    with pytest.raises(InputError, match=rf"scores\.csv: '{name}' is no corruption; delete it"):
        split_scores(tmp_path / "scores.csv")


# Files of descriptions.


def test_descriptions_are_read_as_they_are(tmp_path):
    path = tmp_path / "descriptions.csv"
    path.write_text('unit,fraction,description,score\n3,0.5,"A wheel, red.",-1.5\n0,1,nan,-2\n2,1,,-3\n')
    table = read_descriptions(path)
    assert table["unit"].tolist() == [3, 0, 2]
    assert table["description"].tolist() == ["A wheel, red.", "nan", ""]
    assert table["fraction"].tolist() == [0.5, 1, 1]
    assert table["score"].tolist() == [-1.5, -2, -3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unit,text\n1,a\n", r"lacks column 'description' \(it has unit, text\)"),
        ("unit,description\n1,a\nx,b\n", "line 3: unit is 'x'; expected a whole number"),
        ("unit,description\n1.5,a\n", r"line 2: unit is '1\.5'; expected a whole number"),
        ("unit,description\n,a\n", "line 2: unit is ''"),
        ("", "lacks column 'unit'"),
        (None, "not found; check the path"),
        (b"unit,description\n1,\xff\xfe\n", r"line 2: not UTF-8 \(byte 0xff\)"),
    ],
)
def test_bad_descriptions(tmp_path, text, message):
    path = tmp_path / "descriptions.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        read_descriptions(path)
    assert str(path) in str(caught.value)


# A captioner on held-out units.


def write_held_out(path, texts, references, categories=None):
    table = pd.DataFrame({"unit": range(len(texts)), "concept": "thing", "description": texts})
    table["category"] = categories or "object"
    for number in range(max(map(len, references))):
        table[f"reference_{number + 1}"] = [row[number] if number < len(row) else "" for row in references]
    write_csv(table, path)
    return path


def test_quality_by_hand(tmp_path):
    texts = ["a red car", "the blue sky", "green on"]
    references = [["a red wheel", "a red car"], ["the blue wheel"], ["green on"]]
    table, read = read_held_out(write_held_out(tmp_path / "held_out.csv", texts, references, ["part", "scene", "part"]))
    assert read == references
    quality = measure_captioner(table, read, WordScorer(), 0.9, seed=0)
    assert quality["category"].tolist() == ["all", "part", "scene"]
    assert quality["n"].tolist() == [3, 2, 1]
    assert quality["f1"].tolist() == pytest.approx([8 / 9, 1, 2 / 3])
    assert quality["same"].tolist() == pytest.approx([2 / 3, 1, 0])
    assert quality["shuffled_f1"].tolist() == pytest.approx([0, 0, 0])  # no two units share a word
    assert (quality["difference"] == quality["f1"]).all()
    assert quality["low"][0] <= quality["difference"][0] <= quality["high"][0]
    assert quality["bleu"][2] == pytest.approx(corpus_bleu(texts[1:2], references[1:2]))


def test_shuffled_assignments_leave_no_unit_its_own():
    seen = []

    class Spy(WordScorer):
        def score(self, candidates, references, idf_from=None):
            seen.extend(zip(candidates, references, strict=True))
            return super().score(candidates, references, idf_from)

    texts = [f"text {number}" for number in range(5)]
    table = pd.DataFrame({"description": texts, "category": "object"})
    measure_captioner(table, [[text] for text in texts], Spy(), 0.5, seed=1)
    own, shuffled = seen[:5], seen[5:]
    assert all([candidate] == reference for candidate, reference in own)
    assert len(shuffled) == 5 * PERMUTATIONS
    assert not any([candidate] == reference for candidate, reference in shuffled)
    assert {reference[0] for candidate, reference in shuffled if candidate == texts[0]} == set(texts[1:])


@pytest.mark.parametrize(
    ("references", "message"),
    [([["a"], ["."]], "line 3: unit 1 has no reference"), ([["a"]], "1 units; expected at least 2")],
)
def test_bad_held_out(tmp_path, references, message):
    path = write_held_out(tmp_path / "held_out.csv", ["x"] * len(references), references)
    with pytest.raises(InputError, match=message):
        read_held_out(path)


# The scripts.


class Files(list):
    """Named inputs or outputs as a script sees them."""

    def __init__(self, **named):
        super().__init__()
        self.__dict__.update(named)


@pytest.fixture
def run_script(tmp_path):
    """run_script(name, input, output, **params) runs a script of the workflow in this process."""
    handlers, level, threads = logging.root.handlers[:], logging.root.level, torch.get_num_threads()

    def run(name, files, output, **params):
        job = SimpleNamespace(
            log=[str(tmp_path / f"{name}.log")],
            threads=1,
            input=Files(**files),
            output=Files(**output),
            params=SimpleNamespace(scorer={"kind": "minilm"}, device="cpu", **params),
        )
        runpy.run_path(str(SCRIPTS / f"{name}.py"), {"snakemake": job})

    yield run
    logging.captureWarnings(False)
    logging.root.handlers[:], logging.root.level = handlers, level
    torch.set_num_threads(threads)


@pytest.fixture
def calibrated(run_script, tmp_path):
    """A threshold and its pairs, as calibrate_threshold writes them."""
    things = ("car", "bird", "wheel", "house", "tree", "lamp")
    rows = [
        (f"{colour}.png", "object", number, f"a {colour} {thing}")
        for number, thing in enumerate(things)
        for colour in ("red", "blue", "green", "white")
    ]
    regions = tmp_path / "regions.csv"
    write_csv(pd.DataFrame(rows, columns=["image", "category", "number", "description"]), regions)
    files = {"threshold": str(tmp_path / "threshold.json"), "pairs": str(tmp_path / "pairs.csv")}
    run_script("calibrate_threshold", {"pairs": str(regions)}, files, threshold="calibrated", seed=0)
    return files


PLACE = ("scenes", "vgg", "conv1")


def run_score(run_script, judge, clean, corrupted, output):
    """score_milan with files by place."""
    files = {"clean": list(clean.values()), "corrupted": list(corrupted.values())}
    run_script("score_milan", judge | files, output, places={"clean": list(clean), "corrupted": list(corrupted)})


def test_scripts_from_pairs_to_scores(run_script, calibrated, tmp_path):
    clean, corrupted = {}, {}
    for number, layer in enumerate(("conv1", "conv2")):
        clean["scenes", "vgg", layer] = str(tmp_path / f"{layer}.csv")
        write_csv(CLEAN.assign(unit=CLEAN["unit"] + number), tmp_path / f"{layer}.csv")
    for corruption in ("null", "noise/gaussian-0.05"):
        for number, place in enumerate(clean):
            path = tmp_path / f"{corruption.replace('/', '-')}-{number}.csv"
            table = noisy("a blue sky", "a red car" if corruption == "null" else "a white bird", "")
            table = table.rename(columns={"seed": "replicate"}) if corruption == "null" else table
            write_csv(table.assign(unit=table["unit"] + number), path)
            corrupted[*place, corruption] = str(path)
    output = {"scores": str(tmp_path / "scores.csv"), "facts": str(tmp_path / "scores.json")}
    run_score(run_script, calibrated, clean, corrupted, output)
    tables = split_scores(output["scores"])
    assert [key for *_, layer, corruption in corrupted for key in [(layer, corruption)]] == list(tables)
    assert [table["manipulated"].sum() for table in tables.values()] == [0, 0, 1, 1]
    assert [table["unit"].tolist() for table in tables.values()] == 2 * [[1, 4, 7], [2, 5, 8]]
    facts = json.loads(Path(output["facts"]).read_text())
    assert facts == json.loads(Path(calibrated["threshold"]).read_text())
    assert facts["scorer"]["hash"].startswith("all-MiniLM-L6-v2_L6_idf")
    assert facts["n_same"] + facts["n_different"] == 500
    assert facts["false_positive_rate"] < 0.2


def test_script_of_the_captioner(run_script, calibrated, tmp_path):
    texts = ["a red car", "a blue bird", "the wheel of a car"]
    references = [["a car", "a red car on a road"], ["the bird", "a blue bird"], ["a house", "the white house"]]
    held_out = write_held_out(tmp_path / "held_out.csv", texts, references)
    quality = tmp_path / "quality.csv"
    run_script("score_captioner", {**calibrated, "held_out": str(held_out)}, {"quality": str(quality)}, seed=0)
    table = pd.read_csv(quality)
    assert table["category"].tolist() == ["all", "object"]
    assert table["f1"][0] > table["shuffled_f1"][0]
    assert np.isfinite(table.drop(columns="category")).all(axis=None)


def test_script_with_a_given_threshold(run_script, tmp_path):
    files = {"threshold": str(tmp_path / "threshold.json"), "pairs": str(tmp_path / "pairs.csv")}
    run_script("calibrate_threshold", {"pairs": []}, files, threshold=0.642, seed=0)
    found = json.loads(Path(files["threshold"]).read_text())
    assert (found["threshold"], found["n_same"], found["scorer"]) == (0.642, 0, None)
    write_csv(CLEAN, tmp_path / "clean.csv")
    write_csv(noisy("a sky", "a wing", ""), tmp_path / "noise.csv")
    clean, corrupted = {PLACE: str(tmp_path / "clean.csv")}, {(*PLACE, "noise/gaussian-1"): str(tmp_path / "noise.csv")}
    output = {"scores": str(tmp_path / "scores.csv"), "facts": str(tmp_path / "facts.json")}
    run_score(run_script, files, clean, corrupted, output)
    assert len(pd.read_csv(output["scores"])) == 3
    assert json.loads((tmp_path / "facts.json").read_text())["scorer"]["model_sha256"]


def test_scripts_end_in_one_line(run_script, calibrated, tmp_path, capsys):
    write_csv(CLEAN[:1], tmp_path / "clean.csv")
    write_csv(noisy("a", "b", "c"), tmp_path / "noise.csv")
    clean, corrupted = {PLACE: str(tmp_path / "clean.csv")}, {(*PLACE, "noise/gaussian-1"): str(tmp_path / "noise.csv")}
    output = {"scores": str(tmp_path / "scores.csv"), "facts": str(tmp_path / "facts.json")}
    with pytest.raises(SystemExit):
        run_score(run_script, calibrated, clean, corrupted, output)
    line = f"nemesis: {tmp_path / 'clean.csv'}: lacks unit 1, which is a unit of {tmp_path / 'noise.csv'}; "
    assert capsys.readouterr().err == line + "delete both files and run again\n"
    assert not (tmp_path / "scores.csv").exists()
