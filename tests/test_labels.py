"""Flips against margins, by hand: eight units in quarters."""

import numpy as np
import pandas as pd
import pytest

from nemesis.figures.margins import NULL, margin_table, plot_margins, plot_null
from nemesis.figures.noise import save_figure
from nemesis.files import write_csv

EXPERIMENT = {"probe": "scenes", "model": "vgg", "layers": ["conv1"], "units": {"conv1": "all"}}
NOISES = [("gaussian-0.05", "gaussian", 0.05)]
MARGINS = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]
FLIPS = [True, True, True, False, False, True, False, False]


@pytest.fixture
def results(tmp_path):
    """Unit 8 has no label: nothing of it counts."""
    folder, unit = tmp_path / "scenes/vgg/conv1", np.arange(9)
    iou = np.array([0.1 + margin for margin in MARGINS] + [0.01])
    clean = pd.DataFrame({"unit": unit, "label": "cat", "iou": iou, "iou_2": [0.1] * 8 + [0.0]})
    write_csv(clean, folder / "clean/dissection.csv")
    churn = pd.DataFrame(
        {"replicate": np.repeat([0, 1], 9), "unit": np.tile(unit, 2), "changed": [True] * 9 + [False] * 9}
    )
    write_csv(churn, folder / "clean/null_churn.csv")
    parts = [
        pd.DataFrame({"fraction": fraction, "seed": 0, "unit": unit, "manipulated": [*flips, True]})
        for fraction, flips in ((0.5, [True] * 8), (1.0, FLIPS))
    ]
    write_csv(pd.concat(parts), folder / "noise/gaussian-0.05/dissection.csv")
    return tmp_path


def test_quarters(results):
    table = margin_table([EXPERIMENT], NOISES, 0.04, 0, results)
    assert table["corruption"].tolist() == [NULL] * 4 + ["gaussian noise, std 0.05"] * 4
    assert table["quarter"].tolist() == 2 * [1, 2, 3, 4] and (table["units"] == 2).all()
    assert (table["changed"][:4] == 0.5).all()
    assert table["changed"][4:].tolist() == [1.0, 0.5, 0.5, 0.0]
    assert table["margin_from"][0] == pytest.approx(0.01) and table["margin_to"][3] == pytest.approx(0.08)
    assert ((table["low"] <= table["changed"]) & (table["changed"] <= table["high"])).all()
    save_figure(plot_margins(table), results / "margin.png")


def test_only_the_units_of_the_experiment_count(results):
    table = margin_table([EXPERIMENT | {"units": {"conv1": [0, 1, 2, 7]}}], NOISES, 0.04, 0, results)
    assert table["units"].tolist() == 8 * [1]
    assert table["changed"][4:].tolist() == [1.0, 1.0, 1.0, 0.0]


def test_no_unit_has_a_label(results):
    table = margin_table([EXPERIMENT], NOISES, 0.9, 0, results)
    assert (table["units"] == 0).all() and table["changed"].isna().all()
    save_figure(plot_margins(table), results / "margin.svg")


def test_null_churn_by_layer(tmp_path):
    line = {"probe": "scenes", "model": "vgg", "layer": "conv1", "labelled": 5, "null_churn": 0.2, "null_low": 0.1}
    labels = pd.DataFrame([line | {"null_high": 0.4}])
    save_figure(plot_null(labels), tmp_path / "null_churn.png")
    save_figure(plot_null(labels.assign(labelled=0)), tmp_path / "none.png")
