"""Figures of the designed stage are drawn from whatever there is; tables and figures are written by name."""

import numpy as np
import pandas as pd
import pytest
from attacked_files import plausible
from PIL import Image

from nemesis.figures.catalogue import DRAWN_FROM
from nemesis.figures.designed_figures import PLOTS
from nemesis.figures.designed_tables import CHOSEN, MAKERS, show_shares
from nemesis.figures.report import summary_text, write_designed
from nemesis.figures.style import spread
from nemesis.plan.files import group_files

MODELS = {"vgg": ["conv1", "conv2", "conv3", "conv4", "conv5"], "lite": ["blocks.2", "blocks.10", "blocks.15"]}
TABLES = [*MAKERS, *CHOSEN]


def write_below(folder, attacks, tables, figures):
    """Write tables and figures by name; returns the designed table."""
    files = [
        group_files([folder / f"{name}.{ending}" for name in names for ending in endings], names)
        for names, endings in ((tables, ("csv", "md", "tex")), (figures, ("svg", "png")))
    ]
    return write_designed(attacks, *files)["designed"]


@pytest.mark.parametrize(
    ("models", "units", "eps"),
    [
        pytest.param(MODELS, 50, (2, 6), marks=pytest.mark.slow, id="many layers"),
        pytest.param({"vgg": ["conv1"]}, 3, (6,), id="one layer"),
        pytest.param({"vgg": ["conv1"]}, 1, (0.5,), id="one unit"),
        pytest.param({"vgg": ["conv1", "conv2"]}, 0, (6,), id="no unit"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_everything_is_written(tmp_path, models, units, eps):
    designed = write_below(tmp_path / "out", plausible(tmp_path, models, units, eps), TABLES, PLOTS)
    names = [f"{name}.{ending}" for name in TABLES for ending in ("csv", "md", "tex")]
    names += [f"{name}.{ending}" for name in PLOTS for ending in ("svg", "png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    assert [name for name in names if not (tmp_path / "out" / name).stat().st_size] == []
    assert designed["units"].tolist() == [units] * len(designed)
    for name in PLOTS:
        with Image.open(tmp_path / f"out/{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5, name
    if not units:
        assert (show_shares(designed)["manipulated"] == "-").all()


@pytest.mark.parametrize("mode", ["untargeted", "targeted", "shared"])
@pytest.mark.filterwarnings("error")
def test_one_mode_alone(tmp_path, mode):
    tables = {"untargeted": ["table_2", "figure_6"], "targeted": ["table_2", "targeted"], "shared": ["shared"]}[mode]
    tables += ["budget", "figure_4"] if mode != "shared" else ["budget", "collateral"]
    attacks = plausible(tmp_path, {"vgg": ["conv1"]}, 4, (6,), (mode,))
    designed = write_below(tmp_path / "out", attacks, tables, [name for name in tables if name != "table_2"])
    labels = designed[["probe", "model", "layer", "units", "null_churn", "null_low", "null_high"]]
    text = summary_text(labels.assign(labelled=4), None, designed)
    assert f"{mode} " in text[text.index("Designed") :]


def test_figures_are_the_same_again(tmp_path):
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        attacks = plausible(folder, {"vgg": ["conv1"]}, 5, (6,), ("untargeted",))
        write_below(folder / "out", attacks, [], ["figure_6", "storage"])
        found.append({path.name: path.read_bytes() for path in (folder / "out").iterdir()})
    assert found[0] == found[1] and len(found[0]) == 4


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_to_draw_is_said(name):
    columns = ["probe", "model", "layer", "method", "eps", "mode", "masks", "shared", "untargeted"]
    text = " ".join(found.get_text() for found in PLOTS[name](pd.DataFrame(columns=columns)).texts)
    assert "nothing to draw" in text


def test_the_table_of_a_figure_is_made_though_it_is_not_written(tmp_path):
    write_below(tmp_path / "out", plausible(tmp_path, {"vgg": ["conv1"]}, 3, (6,)), [], ["minimum_epsilon"])
    assert DRAWN_FROM["minimum_epsilon"] == "minimum_epsilon_curve"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["minimum_epsilon.png", "minimum_epsilon.svg"]


def test_few_of_many_values():
    assert spread([4, 2, 2]) == [2, 4]
    assert spread(range(1, 10)) == [1, 5, 9]
