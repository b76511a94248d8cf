"""Thresholds against cases computed by hand, and labelled pairs from files and from described regions."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from text_scorers import WordScorer, open_minilm

from nemesis.errors import InputError
from nemesis.files import write_csv
from nemesis.scoring.bleu import normalise
from nemesis.scoring.calibrate import (
    Calibration,
    calibrate,
    check_scorer,
    choose_pairs,
    find_threshold,
    list_texts,
    measure_errors,
    pairs_from_regions,
    read_pairs,
    read_threshold,
    write_facts,
    write_threshold,
)

THINGS = {
    1: ("object", "car"),
    2: ("object", "bird"),
    3: ("part", "wheel"),
    4: ("part", "wing"),
    5: ("texture", "dotted"),
}
COLOURS = ("red", "blue", "green", "white")


@pytest.fixture
def regions(tmp_path):
    """A descriptions.csv as minibroden writes it: every thing in every colour, in an image each."""
    path = tmp_path / "descriptions.csv"
    rows = [
        (f"images/{colour}.png", category, number, name, 0, 0, 9, 9, f"a {colour} {name}")
        for number, (category, name) in THINGS.items()
        for colour in COLOURS
    ]
    header = ["image", "category", "number", "name", "x0", "y0", "x1", "y1", "description"]
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def name_of(text: str) -> str:
    return text.rsplit(maxsplit=1)[-1]


# The threshold.


def test_separated_pairs_have_no_errors():
    found = find_threshold([0.9, 0.8, 0.4, 0.1], [1, 1, 0, 0])
    assert found == Calibration(pytest.approx(0.6), 0.0, 0.0, 2, 2)


def test_equal_errors_by_hand():
    # between 0.4 and 0.5 one of four of each kind is wrong
    f1 = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    same = [0, 0, 0, 1, 0, 1, 1, 1]
    assert find_threshold(f1, same) == Calibration(pytest.approx(0.45), 0.25, 0.25, 4, 4)


def test_rates_count_not_numbers():
    found = find_threshold([0.3, 0.9, 0.1, 0.2, 0.25, 0.35], [1, 1, 0, 0, 0, 0])
    # wrong of the 2 same and of the 4 different, at every cut: 0.15: 0, 3/4; 0.225: 0, 1/2; 0.275: 0, 1/4;
    # 0.325: 1/2, 1/4; 0.625: 1/2, 0
    assert found == Calibration(pytest.approx(0.275), 0.0, 0.25, 2, 4)


def test_a_score_at_the_threshold_counts_as_different():
    assert measure_errors([0.5, 0.5], [1, 0], 0.5) == Calibration(0.5, 1.0, 0.0, 1, 1)
    assert measure_errors([0.5, 0.5], [1, 0], 0.49) == Calibration(0.49, 0.0, 1.0, 1, 1)


def test_errors_without_pairs_are_unknown():
    assert measure_errors([], [], 0.642) == Calibration(0.642, None, None, 0, 0)
    assert measure_errors([0.7], [1], 0.642) == Calibration(0.642, 0.0, None, 1, 0)


pair = st.tuples(st.integers(-99, 99).map(lambda number: number / 99), st.booleans())


@given(st.lists(pair, min_size=2, max_size=60, unique_by=lambda pair: pair[0]))
def test_error_rates_are_equal_up_to_one_pair(pairs):
    f1, same = np.array([f1 for f1, _ in pairs]), np.array([same for _, same in pairs])
    assume(same.any() and not same.all())
    found = find_threshold(f1, same)
    assert found == measure_errors(f1, same, found.threshold)
    gap = abs(found.false_positive_rate - found.false_negative_rate)
    assert gap <= max(1 / found.n_same, 1 / found.n_different) + 1e-9


@given(st.lists(pair, min_size=2, max_size=60))
def test_no_other_threshold_is_more_even(pairs):
    f1, same = np.array([f1 for f1, _ in pairs]), np.array([same for _, same in pairs])
    assume(same.any() and not same.all() and len(np.unique(f1)) > 1)
    found = find_threshold(f1, same)
    gaps = [
        abs(other.false_positive_rate - other.false_negative_rate)
        for other in (measure_errors(f1, same, level) for level in f1 if level < f1.max())
    ]
    assert abs(found.false_positive_rate - found.false_negative_rate) <= min(gaps) + 1e-9


@pytest.mark.parametrize(
    ("f1", "same", "message"),
    [
        ([0.1, 0.2], [1, 1], "2 are of one concept, 0 of two"),
        ([], [], "0 are of one concept, 0 of two"),
        ([0.5, 0.5, 0.5], [1, 0, 0], "all 3 have F1 0.5; this scorer cannot tell them apart"),
    ],
)
def test_no_threshold(f1, same, message):
    with pytest.raises(InputError, match=message):
        find_threshold(f1, same)


# Pairs.


def test_pairs_from_regions(regions):
    pairs = pairs_from_regions(regions, 201, seed=3)
    assert pairs["same"].sum() == 100
    assert len(pairs) == 201
    assert (pairs["same"] == (pairs["first"].map(name_of) == pairs["second"].map(name_of))).all()
    assert (pairs["first"] != pairs["second"]).all()
    assert set(pairs["first"][pairs["same"]].map(name_of)) == {name for _, name in THINGS.values()}
    category = {name: category for category, name in THINGS.values()}
    different = pairs[~pairs["same"]]
    kin = different["first"].map(name_of).map(category) == different["second"].map(name_of).map(category)
    assert 0.3 < kin.mean() < 0.7
    assert pairs.equals(pairs_from_regions(regions, 201, seed=3))
    assert not pairs.equals(pairs_from_regions(regions, 201, seed=4))


def test_regions_that_give_no_pairs(tmp_path, regions):
    table = pd.read_csv(regions)
    for part, message in (
        (table[table["number"] == 1], "1 concepts with two different descriptions; expected at least 2"),
        (table.assign(image="one.png"), "hardly any concept has different descriptions in two images"),
        (table.drop(columns="number"), r"lacks column 'number' \(it has image, "),
    ):
        write_csv(part, tmp_path / "part.csv")
        with pytest.raises(InputError, match=message) as caught:
            pairs_from_regions(tmp_path / "part.csv")
        assert "part.csv" in str(caught.value)


def test_pairs_of_a_user(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('first,second,same,who\n"a wheel, red",,1,me\nnan,None,0,you\na,b,True,\n')
    pairs = read_pairs(path)
    assert pairs.to_numpy().tolist() == [["a wheel, red", "", True], ["nan", "None", False], ["a", "b", True]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first,second\na,b\n", r"lacks column 'same' \(it has first, second\)"),
        ("first,second,same\na,b,1\na,b,maybe\n", "line 3: same is 'maybe'; expected 1 or 0"),
        ("", "lacks column 'first'"),
        (None, "not found; check the path"),
    ],
)
def test_bad_pairs(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_pairs(path)
    assert str(path) in str(caught.value)


def test_choice_of_pairs(regions, tmp_path):
    drawn, source = choose_pairs("calibrated", regions, 0)
    assert source == f"calibrated on 500 pairs of known concepts from {regions}"
    tested, given_source = choose_pairs(0.642, regions, 0)
    assert tested.equals(drawn)
    assert given_source.startswith("given in the config, tested on 500 pairs")
    none, source = choose_pairs(0.642, [], 0)
    assert not len(none)
    assert source == "given in the config, not tested on pairs"
    write_csv(drawn.head(4), tmp_path / "own.csv")
    own, source = choose_pairs({"pairs": "own.csv"}, tmp_path / "own.csv", 0)
    assert own.equals(drawn.head(4))
    assert source.startswith("calibrated on the 4 labelled pairs of ")


# Both together.


def test_calibration_by_hand(tmp_path):
    pairs = pd.DataFrame(
        [("a red car", "a blue car", True), ("a red car", "a red wheel", False), ("a sky", "the wing", False)],
        columns=["first", "second", "same"],
    )
    scorer = WordScorer()
    scored, found = calibrate("calibrated", pairs, scorer)
    assert scored["f1"].tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    # the only cut, 1/3: no same pair is wrong, one of two different pairs is
    assert found == Calibration(pytest.approx(1 / 3), 0.0, 0.5, 1, 2)
    assert scorer.idf_from == [list_texts(pairs)]
    assert calibrate(0.9, pairs, scorer)[1] == Calibration(0.9, 1.0, 0.0, 1, 2)
    nothing, found = calibrate(0.9, pairs.head(0), None)
    assert found == Calibration(0.9, None, None, 0, 0)
    for table in (scored, nothing):
        write_csv(table, tmp_path / "pairs.csv")
        assert read_pairs(tmp_path / "pairs.csv").equals(table[["first", "second", "same"]].astype({"same": bool}))
    assert list_texts(read_pairs(tmp_path / "pairs.csv")) is None


def test_embedded_scorer_tells_concepts_apart(regions):
    _, found = calibrate(*("calibrated", choose_pairs("calibrated", regions, 0)[0]), open_minilm())
    assert found.false_positive_rate < 0.1
    assert 0.2 < found.threshold < 0.9


def test_threshold_is_stored_with_its_errors_and_its_scorer(tmp_path):
    path, facts = tmp_path / "threshold.json", {"hash": "one", "model_sha256": "0"}
    write_threshold(Calibration(0.4, 0.1, None, 10, 0), "calibrated", facts, path)
    expected = {"threshold": 0.4, "false_positive_rate": 0.1, "false_negative_rate": None, "n_same": 10}
    expected |= {"n_different": 0, "source": "calibrated", "scorer": facts}
    assert json.loads(path.read_text()) == read_threshold(path) == expected
    check_scorer(expected, facts, path)
    check_scorer(expected | {"scorer": None}, facts, path)
    with pytest.raises(InputError, match="calibrated with hash one, but the scorer has two; delete"):
        check_scorer(expected, facts | {"hash": "two"}, path)
    write_facts(expected | {"scorer": None}, facts, tmp_path / "facts.json")
    assert read_threshold(tmp_path / "facts.json") == expected


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"threshold": null}', '{"threshold": "high"}', None])
def test_damaged_threshold(tmp_path, text):
    path = tmp_path / "threshold.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"threshold\.json: damaged"):
        read_threshold(path)


def test_normalised_texts_are_never_equal_within_a_pair(regions):
    pairs = pairs_from_regions(regions, 100)
    assert not (pairs["first"].map(normalise) == pairs["second"].map(normalise)).any()
