"""Shares and tables against numbers computed by hand."""

import math

import pandas as pd
import pytest

from nemesis.dissection.tables import read_table
from nemesis.figures.tables import (
    add_published,
    format_share,
    label_table,
    noise_table,
    select_kinds,
    summary_text,
    to_markdown,
    write_table,
)
from nemesis.files import write_csv
from nemesis.scoring.intervals import wilson_interval
from nemesis.scoring.shares import summarise_noise, summarise_null

MIN_IOU = 0.04
CLEAN_IOU = [0.5, 0.04, 0.03, 0.1, 0.0]  # units 0, 1 and 3 have a label
# fraction, draw -> manipulated, a value a unit
MANIPULATED = {
    (0.5, 0): [True, False, True, False, False],
    (0.5, 1): [False, False, True, False, True],
    (1.0, 0): [True, True, False, True, False],
    (1.0, 1): [True, False, True, True, False],
}


def noise_rows():
    rows = []
    for (fraction, seed), manipulated in MANIPULATED.items():
        for unit, changed in enumerate(manipulated):
            row = {"fraction": fraction, "seed": seed, "unit": unit, "clean_label": "a", "clean_iou": CLEAN_IOU[unit]}
            row |= {"label": "b", "category": "object", "iou": 0.1, "manipulated": changed}
            rows.append(row | {"linf": 5.0 + seed, "rms": 2.0 + 2 * seed})
    return pd.DataFrame(rows)


def clean_rows():
    rows = {"unit": range(5), "label": ["cat", "dog", "x", "cat", ""], "category": ["object"] * 4 + [""]}
    return pd.DataFrame(rows | {"iou": CLEAN_IOU, "iou_2": [0.2, 0.02, 0.03, 0.1, 0.0]})


def churn_rows():
    """Units 0 to 4 change in 2, 1, 4, 0 and 0 of four replicates."""
    times = [2, 1, 4, 0, 0]
    rows = [{"replicate": r, "unit": u, "changed": r < times[u]} for r in range(4) for u in range(5)]
    return pd.DataFrame(rows)


@pytest.fixture
def results(tmp_path):
    """The files of one layer; two kinds of noise."""
    layer = tmp_path / "scenes" / "vgg" / "conv1"
    for folder in ("clean", "noise/gaussian-0.02", "noise/bernoulli-0.02"):
        (layer / folder).mkdir(parents=True)
    write_csv(clean_rows(), layer / "clean/dissection.csv")
    write_csv(churn_rows(), layer / "clean/null_churn.csv")
    write_csv(noise_rows(), layer / "noise/gaussian-0.02/dissection.csv")
    write_csv(noise_rows().assign(manipulated=False), layer / "noise/bernoulli-0.02/dissection.csv")
    return tmp_path


def experiments(units="all"):
    return [{"probe": "scenes", "model": "vgg", "layers": ["conv1"], "units": {"conv1": units}}]


NOISES = [("gaussian-0.02", "gaussian", 0.02), ("bernoulli-0.02", "bernoulli", 0.02)]


def test_shares_are_over_units_with_a_label():
    half, whole = summarise_noise(noise_rows(), MIN_IOU).to_dict("records")
    assert (half["fraction"], half["units"], half["draws"], half["all_units"]) == (0.5, 3, 2, 5)
    assert half["manipulated"] == pytest.approx(1 / 6)  # one of three units in one of two draws
    assert half["manipulated_all"] == pytest.approx(4 / 10)
    assert whole["manipulated"] == pytest.approx(5 / 6)
    assert whole["manipulated_all"] == pytest.approx(6 / 10)
    assert (whole["linf"], whole["rms"]) == (6.0, 3.0)


def test_intervals_are_those_of_one_draw():
    half, whole = summarise_noise(noise_rows(), MIN_IOU).to_dict("records")
    for line, share in ((half, 1 / 6), (whole, 5 / 6)):
        assert (line["low"], line["high"]) == pytest.approx(wilson_interval(3 * share, 3))
        assert line["low"] < share < line["high"]


def test_no_unit_with_a_label_has_no_share():
    for line in summarise_noise(noise_rows(), 0.9).to_dict("records"):
        assert line["units"] == 0
        assert all(math.isnan(line[name]) for name in ("manipulated", "low", "high"))
        assert line["manipulated_all"] > 0


def test_null_churn_is_over_the_given_units():
    found = summarise_null(churn_rows(), [0, 1, 3], seed=0)
    assert found["null_churn"] == pytest.approx((2 + 1 + 0) / 12)
    assert 0 <= found["null_low"] < found["null_churn"] < found["null_high"] <= 0.5
    assert summarise_null(churn_rows(), [2], 0) == {"null_churn": 1.0, "null_low": 1.0, "null_high": 1.0}
    assert all(math.isnan(value) for value in summarise_null(churn_rows(), [], 0).values())


def test_null_churn_without_replicates(results):
    path = results / "scenes/vgg/conv1/clean/null_churn.csv"
    write_csv(churn_rows().iloc[:0], path)
    found = summarise_null(read_table(path), [0, 1], 0)
    assert all(math.isnan(value) for value in found.values())
    (line,) = label_table(experiments(), MIN_IOU, 0, results).to_dict("records")
    assert math.isnan(line["null_churn"])


def test_label_table(results):
    (line,) = label_table(experiments(), MIN_IOU, 0, results).to_dict("records")
    assert (line["probe"], line["model"], line["layer"]) == ("scenes", "vgg", "conv1")
    assert (line["units"], line["labelled"], line["concepts"]) == (5, 3, 2)
    assert line["mean_iou"] == pytest.approx((0.5 + 0.04 + 0.1) / 3)
    assert line["margin"] == pytest.approx((0.3 + 0.02 + 0.0) / 3)
    assert line["null_churn"] == pytest.approx(3 / 12)
    (line,) = label_table(experiments([2, 3]), MIN_IOU, 0, results).to_dict("records")
    assert (line["units"], line["labelled"], line["concepts"]) == (2, 1, 1)
    assert line["null_churn"] == 0


def test_noise_table(results):
    labels = label_table(experiments(), MIN_IOU, 0, results)
    table = noise_table(experiments(), NOISES, labels, MIN_IOU, results)
    assert table.columns[:5].tolist() == ["probe", "model", "layer", "kind", "std"]
    places = table[["kind", "std", "fraction"]].to_numpy().tolist()
    assert places == [[kind, 0.02, fraction] for kind in ("gaussian", "bernoulli") for fraction in (0.5, 1.0)]
    assert table["manipulated"].tolist() == pytest.approx([1 / 6, 5 / 6, 0, 0])
    assert table["null_churn"].tolist() == pytest.approx([0.25] * 4)
    assert table["published"].tolist() == [""] * 4


def test_published_values_stand_where_the_paper_states_them():
    place = {"probe": "broden1_224", "model": "vgg16_places365", "kind": "gaussian", "std": 0.02, "fraction": 1.0}
    others = [place | change for change in ({"std": 0.05}, {"fraction": 0.5}, {"probe": "x"}, {"kind": "uniform"})]
    table = add_published(pd.DataFrame([place, *others]))
    assert len(table) == 5
    assert "28%" in table["published"][0]
    assert table["published"][1:].tolist() == [""] * 4


def test_kinds_side_by_side(results):
    labels = label_table(experiments(), MIN_IOU, 0, results)
    table = select_kinds(noise_table(experiments(), NOISES, labels, MIN_IOU, results))
    assert table["kind"].tolist() == ["bernoulli", "gaussian"]
    assert table["fraction"].tolist() == [1.0, 1.0]
    assert "place" not in table


def test_summary(results):
    labels = label_table(experiments(), MIN_IOU, 0, results)
    noise = noise_table(experiments(), NOISES, labels, MIN_IOU, results)
    text = summary_text(labels, noise)
    low, high = wilson_interval(2.5, 3)
    assert f"83% [{100 * low:.0f}, {100 * high:.0f}], n=3" in text
    assert "gaussian 0.02" in text
    assert "3 of 5" in text
    assert "25% [" in text
    assert "3 of 5" in summary_text(labels, None)


def test_shares_as_text():
    assert format_share(0.125, 0.08, 0.171, 80) == "12% [8, 17], n=80"
    assert format_share(math.nan, math.nan, math.nan, 0) == "-"
    assert format_share(math.nan, math.nan, math.nan, 80) == "-"


def test_markdown():
    table = pd.DataFrame({"label": ["a|b", ""], "iou": [0.12345, math.nan], "n": [10, 200], "x": [1.0, 20.5]})
    assert to_markdown(table) == (
        "| label | iou | n | x |\n| --- | --- | --- | --- |\n| a\\|b | 0.123 | 10 | 1 |\n|  | - | 200 | 20.5 |\n"
    )


def test_written_tables_are_read_again(tmp_path):
    table = pd.DataFrame({"label": ["", "NA", "null"], "iou": [1 / 3, 0.0, 1e-9]})
    write_table(table, tmp_path / "t")
    again = read_table(tmp_path / "t.csv")
    assert again["label"].tolist() == ["", "NA", "null"]
    assert again["iou"].tolist() == pytest.approx([1 / 3, 0.0, 1e-9], rel=1e-15)
    assert (tmp_path / "t.md").read_text().count("\n") == 5
    write_table(table, tmp_path / "s", show=lambda shown: shown[["iou"]])
    assert (tmp_path / "s.md").read_text().startswith("| iou |")
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "t.csv").read_bytes()
