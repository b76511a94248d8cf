"""Tables of labels against numbers computed by hand, and their figures."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from label_rows import MIN_IOU, churn_rows, clean_rows, noise_rows

from nemesis.dissection.tables import read_table
from nemesis.figures.catalogue import DRAWN_FROM
from nemesis.figures.label_figures import PLOTS, plot_margins, plot_null
from nemesis.figures.labels import (
    CHOSEN,
    MAKERS,
    RESAMPLED,
    Labels,
    add_published,
    label_table,
    margin_table,
    noise_table,
    select_kinds,
)
from nemesis.figures.report import summary_text, write_labels
from nemesis.figures.style import save_figure
from nemesis.files import write_csv
from nemesis.plan.files import group_files
from nemesis.scoring.intervals import wilson_interval
from nemesis.scoring.shares import summarise_null

CONV1 = ("scenes", "vgg", "conv1")


def write_layer(folder, clean, churn, noise) -> Labels:
    """The files of one layer; `noise` has rows by (kind, std)."""
    write_csv(clean, folder / "clean.csv")
    write_csv(churn, folder / "churn.csv")
    for (kind, std), rows in noise.items():
        write_csv(rows, folder / f"{kind}-{std}.csv")
    files = {(*CONV1, *key): folder / f"{key[0]}-{key[1]}.csv" for key in noise}
    churned = {CONV1: folder / "churn.csv"}
    return Labels({CONV1: folder / "clean.csv"}, churned, files, {CONV1: "all"}, MIN_IOU, 0)


@pytest.fixture
def results(tmp_path):
    """One layer; two kinds of noise."""
    noise = {("gaussian", 0.02): noise_rows(), ("bernoulli", 0.02): noise_rows().assign(manipulated=False)}
    return write_layer(tmp_path, clean_rows(), churn_rows(), noise)


def test_null_churn_without_replicates(results):
    path = results.null_churn[CONV1]
    write_csv(churn_rows().iloc[:0], path)
    found = summarise_null(read_table(path), [0, 1], 0)
    assert all(math.isnan(value) for value in found.values())
    (line,) = label_table(results).to_dict("records")
    assert math.isnan(line["null_churn"])


def test_label_table(results):
    (line,) = label_table(results).to_dict("records")
    assert (line["probe"], line["model"], line["layer"]) == ("scenes", "vgg", "conv1")
    assert (line["units"], line["labelled"], line["concepts"]) == (5, 3, 2)
    assert line["mean_iou"] == pytest.approx((0.5 + 0.04 + 0.1) / 3)
    assert line["margin"] == pytest.approx((0.3 + 0.02 + 0.0) / 3)
    assert line["null_churn"] == pytest.approx(3 / 12)
    (line,) = label_table(replace(results, units={CONV1: [2, 3]})).to_dict("records")
    assert (line["units"], line["labelled"], line["concepts"]) == (2, 1, 1)
    assert line["null_churn"] == 0


def test_noise_table(results):
    table = noise_table(results)
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
    table = select_kinds(noise_table(results))
    assert table["kind"].tolist() == ["bernoulli", "gaussian"]
    assert table["fraction"].tolist() == [1.0, 1.0]
    assert "place" not in table


def test_summary(results):
    labels, noise = label_table(results), noise_table(results)
    text = summary_text(labels, noise)
    low, high = wilson_interval(2.5, 3)
    assert f"83% [{100 * low:.0f}, {100 * high:.0f}], n=3" in text
    assert "gaussian 0.02" in text
    assert "3 of 5" in text
    assert "25% [" in text
    assert "3 of 5" in summary_text(labels, None)


def test_layers_stand_in_their_order(results):
    """Two networks, the second of which has the layer twice under other names."""
    places = [("scenes", "vgg", "conv1"), ("scenes", "lite", "b"), ("scenes", "lite", "a")]
    clean, churn = results.clean[CONV1], results.null_churn[CONV1]
    noise = {(*place, *key[3:]): path for place in places for key, path in results.noise.items()}
    several = Labels(
        dict.fromkeys(places, clean), dict.fromkeys(places, churn), noise, dict.fromkeys(places, "all"), MIN_IOU, 0
    )
    assert [tuple(line) for line in label_table(several)[["probe", "model", "layer"]].to_numpy()] == places
    layers = noise_table(several)["layer"].tolist()
    assert layers == [layer for layer in ("conv1", "b", "a") for _ in range(4)]
    margins = margin_table(several)
    assert margins["model"].tolist() == 12 * ["vgg"] + 12 * ["lite"]
    assert margins["units"].tolist()[:4] != margins["units"].tolist()[12:16]


def test_all_are_written_by_name(results, tmp_path):
    tables, figures = [*MAKERS, *CHOSEN], list(PLOTS)
    files = [
        group_files([tmp_path / f"out/{name}.{ending}" for name in names for ending in endings], names)
        for names, endings in ((tables, ("csv", "md", "tex")), (figures, ("svg", "png")))
    ]
    made = write_labels(results, *files)
    assert set(made) == set(tables)
    assert len(list((tmp_path / "out").iterdir())) == 3 * len(tables) + 2 * len(figures)
    assert made["figure_2b"]["kind"].unique().tolist() == ["gaussian"]
    assert made["figure_2a"]["fraction"].tolist() == [1.0]
    assert DRAWN_FROM["figure_2a"] == "noise"


# Eight units in quarters by margin.
MARGINS = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]
FLIPS = [True, True, True, False, False, True, False, False]


@pytest.fixture
def margins(tmp_path):
    """Unit 8 has no label: nothing of it counts."""
    unit, iou = np.arange(9), np.array([0.1 + margin for margin in MARGINS] + [0.01])
    clean = pd.DataFrame({"unit": unit, "label": "cat", "iou": iou, "iou_2": [0.1] * 8 + [0.0]})
    churn = pd.DataFrame(
        {"replicate": np.repeat([0, 1], 9), "unit": np.tile(unit, 2), "changed": [True] * 9 + [False] * 9}
    )
    parts = [
        pd.DataFrame({"fraction": fraction, "seed": 0, "unit": unit, "manipulated": [*flips, True]})
        for fraction, flips in ((0.5, [True] * 8), (1.0, FLIPS))
    ]
    return write_layer(tmp_path, clean, churn, {("gaussian", 0.05): pd.concat(parts)})


def test_quarters(margins, tmp_path):
    table = margin_table(margins)
    assert table["corruption"].tolist() == [RESAMPLED] * 4 + ["gaussian noise, std 0.05"] * 4
    assert table["quarter"].tolist() == 2 * [1, 2, 3, 4] and (table["units"] == 2).all()
    assert (table["changed"][:4] == 0.5).all()
    assert table["changed"][4:].tolist() == [1.0, 0.5, 0.5, 0.0]
    assert table["margin_from"][0] == pytest.approx(0.01) and table["margin_to"][3] == pytest.approx(0.08)
    assert ((table["low"] <= table["changed"]) & (table["changed"] <= table["high"])).all()
    save_figure(plot_margins(table), tmp_path / "margin.png")


def test_only_the_units_of_the_experiment_count(margins):
    table = margin_table(replace(margins, units={CONV1: [0, 1, 2, 7]}))
    assert table["units"].tolist() == 8 * [1]
    assert table["changed"][4:].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_no_unit_has_a_label(margins, tmp_path):
    table = margin_table(replace(margins, min_iou=0.9))
    assert (table["units"] == 0).all() and table["changed"].isna().all()
    save_figure(plot_margins(table), tmp_path / "margin.svg")


def test_null_churn_by_layer(tmp_path):
    line = {"probe": "scenes", "model": "vgg", "layer": "conv1", "labelled": 5, "null_churn": 0.2, "null_low": 0.1}
    labels = pd.DataFrame([line | {"null_high": 0.4}])
    save_figure(plot_null(labels), tmp_path / "null_churn.png")
    save_figure(plot_null(labels.assign(labelled=0)), tmp_path / "none.png")
