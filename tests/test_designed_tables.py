"""Tables of the designed stage against numbers computed by hand."""

import itertools
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from attacked_files import (
    BISECTED,
    CHURN,
    attacks_on,
    design,
    places_of,
    table,
    write,
    write_minimum,
)

from nemesis.corruption.collateral import COLUMNS as COLLATERAL
from nemesis.corruption.designed import COLUMNS as DISSECTION
from nemesis.corruption.designed import CURVE as BUDGET
from nemesis.corruption.designed import STORAGE
from nemesis.corruption.minimum import COLUMNS as MINIMUM
from nemesis.figures.attacks import choose_setting, group_layers, read_outcomes
from nemesis.figures.designed_figures import published_note
from nemesis.figures.designed_tables import (
    CATEGORIES,
    budget_table,
    category_table,
    collateral_table,
    designed_table,
    minimum_curve,
    minimum_table,
    shared_table,
    show_collateral,
    show_minimum,
    show_shares,
    show_table_2,
    storage_table,
    table_2,
)
from nemesis.figures.report import summary_text
from nemesis.figures.tables import to_markdown
from nemesis.files import write_csv
from nemesis.scoring.designed import summarise_minimum, summarise_quality, trace_minimum
from nemesis.scoring.intervals import bootstrap_interval, wilson_interval

# Units 0, 1, 3 and 4 have a label. Unit: clean IoU, category, changed, hit, fixed changed, fixed hit, noise changed
UNITS = {
    0: (0.50, "object", 1, 1, 1, 1, 0),
    1: (0.04, "object", 1, 0, 0, 0, 1),
    2: (0.03, "part", 1, 1, 1, 1, 1),
    3: (0.10, "texture", 0, 0, 1, 1, 0),
    4: (0.20, "odd", 1, 1, 1, 0, 0),
}
FLAGS = ("manipulated", "target_hit", "fixed_manipulated", "fixed_target_hit", "noise_manipulated")


def dissected(**constant):
    rows = []
    for unit, (iou, category, *flags) in UNITS.items():
        row = {"unit": unit, "clean_iou": iou, "clean_category": category, "margin": 0.1 * unit, "n_poisoned": unit + 1}
        row |= {"fraction_poisoned": (unit + 1) / 100, "linf": 6 - unit / 10, "l2": 10.0 * unit, "ssim": 0.9}
        row |= {"psnr": math.inf if unit == 4 else 30.0 + unit}
        rows.append(row | {name: bool(flag) for name, flag in zip(FLAGS, flags, strict=True)})
    return table(DISSECTION, *rows, clean_label="a", source="a", **constant)


def churned():
    """Units 0 to 4 change in 2, 1, 4, 0 and 0 of four replicates."""
    times = [2, 1, 4, 0, 0]
    return table(CHURN, *({"replicate": r, "unit": u, "changed": r < times[u]} for r in range(4) for u in range(5)))


CONV1 = places_of({"vgg": ["conv1"]})
DESIGNS = [design(), design("targeted")]


@pytest.fixture
def one(tmp_path):
    """One layer, attacked untargeted and targeted at eps 6; nothing but dissection.csv and null churn."""
    write(tmp_path, "vgg/conv1", None, "null_churn.csv", churned())
    for found in DESIGNS:
        write(tmp_path, "vgg/conv1", found, "dissection.csv", dissected())
    return attacks_on(tmp_path, DESIGNS, CONV1)


def assert_share(line, names, successes, n):
    expected = (successes / n, *wilson_interval(successes, n))
    assert tuple(line[name] for name in names) == pytest.approx(expected)


def test_designed_table(one):
    untargeted, targeted = designed_table(one).to_dict("records")
    assert [untargeted[name] for name in ("probe", "model", "layer", "method", "eps", "mode", "masks")] == [
        *("scenes", "vgg", "conv1", "pgd", 6, "untargeted", "segmentation")
    ]
    for line in (untargeted, targeted):
        assert (line["units"], line["attacks"]) == (4, 4)
        assert_share(line, ("manipulated", "low", "high"), 3, 4)
        assert_share(line, ("fixed_manipulated", "fixed_low", "fixed_high"), 3, 4)
        assert_share(line, ("noise_manipulated", "noise_low", "noise_high"), 1, 4)
        assert line["null_churn"] == pytest.approx((2 + 1 + 0 + 0) / 16)
        assert line["null_low"] < line["null_churn"] < line["null_high"]
        assert line["margin"] == pytest.approx((0 + 0.1 + 0.3 + 0.4) / 4)
        assert line["images"] == (1 + 2 + 4 + 5) / 4
        assert (line["fraction_poisoned"], line["linf"], line["l2"]) == (0.05, 6, 20)
        assert (line["psnr"], line["ssim"]) == (pytest.approx((30 + 31 + 33) / 3), pytest.approx(0.9))
        assert line["published"] == ""
    assert_share(targeted, ("target_hit", "hit_low", "hit_high"), 2, 4)
    assert_share(targeted, ("fixed_target_hit", "fixed_hit_low", "fixed_hit_high"), 2, 4)
    hits = ("target_hit", "hit_low", "hit_high", "fixed_target_hit", "fixed_hit_low", "fixed_hit_high")
    assert all(math.isnan(untargeted[name]) for name in hits)


def test_several_targets_of_a_unit_do_not_narrow_the_interval(one, tmp_path):
    twice = pd.concat([dissected(target="b"), dissected(target="c").assign(target_hit=False)])
    write(tmp_path, "vgg/conv1", design("targeted"), "dissection.csv", twice)
    line = designed_table(one).to_dict("records")[1]
    assert (line["units"], line["attacks"]) == (4, 8)
    assert (line["target_hit"], line["hit_low"]) == pytest.approx((2 / 8, wilson_interval(1, 4)[0]))
    assert line["null_churn"] == pytest.approx(3 / 16)


def test_published_values_stand_beside_the_papers_networks_only(one, tmp_path):
    for model in ("vgg16_places365", "lite"):
        shutil.copytree(tmp_path / "scenes/vgg", tmp_path / "broden1_224" / model)
    places = places_of({"vgg16_places365": ["conv1"], "lite": ["conv1"]}, "broden1_224")
    found = designed_table(attacks_on(tmp_path, DESIGNS, places))
    assert ["80%" in text for text in found["published"]] == [True, False, False, False]
    assert set(found["published"][1:]) == {""}
    assert table_2(found)["published"].tolist() == [found["published"][0], ""]
    assert found["published"][0] in published_note() and "VGG16" in published_note()


def test_table_2(one):
    found = table_2(designed_table(one))
    assert found.columns[:5].tolist() == ["probe", "model", "layer", "eps", "units"]
    (line,) = found.to_dict("records")
    assert_share(line, ("untargeted", "untargeted_low", "untargeted_high"), 3, 4)
    assert_share(line, ("targeted", "targeted_low", "targeted_high"), 3, 4)
    assert_share(line, ("target_hit", "hit_low", "hit_high"), 2, 4)
    assert line["null_churn"] == pytest.approx(3 / 16)
    (shown,) = show_table_2(found).to_dict("records")
    low, high = wilson_interval(3, 4)
    assert shown["untargeted"] == shown["targeted"] == f"75% [{100 * low:.0f}, {100 * high:.0f}], n=4"
    assert shown["targeted: got the target's name"].startswith("50% [")
    assert shown["null churn"].startswith("19% [")


def test_table_2_without_one_of_its_modes(one):
    designed = designed_table(one)
    (line,) = table_2(designed[designed["mode"] == "untargeted"]).to_dict("records")
    assert line["untargeted"] == 0.75
    assert math.isnan(line["targeted"]) and math.isnan(line["target_hit"])
    (line,) = show_table_2(table_2(designed[designed["mode"] == "targeted"])).to_dict("records")
    assert line["untargeted"] == "-"
    assert line["targeted"].startswith("75%")


def test_table_2_is_about_pgd_with_segmentation_masks(one):
    designed = designed_table(one)
    other = [designed.assign(method="fgsm"), designed.assign(masks="baseline"), designed.assign(mode="shared")]
    assert len(table_2(pd.concat([designed, *other]))) == 1


def test_categories(one, tmp_path):
    write(tmp_path, "vgg/conv2", None, "null_churn.csv", churned())
    for found in DESIGNS:
        write(tmp_path, "vgg/conv2", found, "dissection.csv", dissected())
    both = attacks_on(tmp_path, DESIGNS, places_of({"vgg": ["conv1", "conv2"]}))
    found = category_table(both)
    assert found["category"].tolist() == 2 * [*CATEGORIES, "odd"]
    targeted = found[found["mode"] == "targeted"].set_index("category").to_dict("index")
    assert {name: line["units"] for name, line in targeted.items() if line["units"]} == {
        **{"object": 4, "texture": 2, "odd": 2}
    }
    assert_share(targeted["object"], ("manipulated", "low", "high"), 4, 4)
    assert_share(targeted["object"], ("target_hit", "hit_low", "hit_high"), 2, 4)
    assert_share(targeted["object"], ("noise_manipulated", "noise_low", "noise_high"), 2, 4)
    assert_share(targeted["texture"], ("manipulated", "low", "high"), 0, 2)
    assert math.isnan(targeted["part"]["manipulated"])


def test_budgets(one, tmp_path):
    rows = []
    for unit, (iou, *_) in UNITS.items():
        for budget, least in ((0.005, 3), (0.1, 1)):
            flags = {"manipulated": unit >= least, "target_hit": unit == 4}
            rows.append({"unit": unit, "clean_iou": iou, "budget": budget, "n_poisoned": unit} | flags)
    write(tmp_path, "vgg/conv1", design(), "budget.csv", table(BUDGET, *rows))
    few = attacks_on(tmp_path, [design()], CONV1, budgets=[0.005, 0.02, 0.1])
    small, absent, large = budget_table(few).to_dict("records")
    assert_share(small, ("manipulated", "low", "high"), 2, 4)  # units 3 and 4 of 0, 1, 3 and 4
    assert_share(large, ("manipulated", "low", "high"), 3, 4)
    assert math.isnan(large["target_hit"])
    assert (small["budget"], small["units"], small["images"]) == (0.005, 4, 2)
    assert (absent["units"], absent["attacks"]) == (0, 0)


def test_shared_attack_is_compared_over_the_same_units(one, tmp_path):
    rows = dissected()
    rows["manipulated"], rows["n_poisoned"] = [True, False, True, True, True], 10
    write(tmp_path, "vgg/conv1", design("shared"), "dissection.csv", rows[rows["unit"] != 4])
    both = attacks_on(tmp_path, [design(), design("shared")], CONV1)
    (line,) = shared_table(both).to_dict("records")
    assert (line["units"], line["shared_images"], line["untargeted_images"]) == (3, 10, (1 + 2 + 4) / 3)
    assert_share(line, ("shared", "shared_low", "shared_high"), 2, 3)  # units 0, 1 and 3
    assert_share(line, ("untargeted", "untargeted_low", "untargeted_high"), 2, 3)
    assert line["null_churn"] == pytest.approx(3 / 12)
    (line,) = shared_table(attacks_on(tmp_path, [design("shared")], CONV1)).to_dict("records")
    assert line["units"] == 3
    assert math.isnan(line["untargeted"])


def test_minimum_epsilon(one, tmp_path):
    found = {0: 1, 1: 3, 2: 2, 3: "", 4: 20}  # above the highest that was tried: known from elsewhere
    rows = [
        {"unit": unit, "clean_iou": UNITS[unit][0], "clean_category": UNITS[unit][1], "minimum_epsilon": eps}
        for unit, eps in found.items()
    ]
    write_minimum(tmp_path, "vgg/conv1", table(MINIMUM, *rows))
    attacks = attacks_on(tmp_path, [], CONV1, bisected=BISECTED, highest=4)
    lines = minimum_table(attacks)
    assert lines["category"].tolist() == ["all", *CATEGORIES, "odd"]
    assert lines["layer"].tolist() == ["conv1"] + 7 * ["all"]
    layer, objects, part, odd = (lines.iloc[place].to_dict() for place in (0, 1, 2, 7))
    assert (layer["units"], layer["highest"]) == (4, 4)
    assert_share(layer, ("unchanged", "low", "high"), 2, 4)
    assert math.isnan(layer["median_epsilon"])  # of 1, 3, none, none
    assert (objects["units"], objects["median_epsilon"], objects["unchanged"]) == (2, 2, 0)
    assert part["units"] == 0
    assert (odd["unchanged"], odd["units"]) == (1, 1)
    assert show_minimum(lines)["median_epsilon"].tolist()[:3] == ["> 4", "2", "-"]
    curve = minimum_curve(attacks)
    line = curve[curve["layer"] == "conv1"]
    assert line["eps"].tolist() == [0, 1, 2, 3, 4]
    assert line["manipulated"].tolist() == [0, 0.25, 0.25, 0.5, 0.5]
    assert_share(line.to_dict("records")[3], ("manipulated", "low", "high"), 2, 4)


def test_minimum_of_an_odd_number_of_units():
    found = summarise_minimum([1, 2, math.nan], 16)
    assert (found["median_epsilon"], found["unchanged"]) == (2, pytest.approx(1 / 3))
    assert trace_minimum([1, 2, math.nan], 2)["manipulated"].tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    empty = summarise_minimum([], 16)
    assert empty["units"] == 0 and math.isnan(empty["median_epsilon"]) and math.isnan(empty["unchanged"])
    assert trace_minimum([], 1)["manipulated"].isna().all()


def test_storage(one, tmp_path):
    rows = []
    for unit, (iou, *_) in UNITS.items():
        for storage, changed, control in (("lossless", True, False), ("jpeg-75", unit == 0, unit in (0, 1, 2))):
            row = {"unit": unit, "clean_iou": iou, "storage": storage, "manipulated": changed, "target_hit": False}
            row |= {"control_manipulated": control, "linf": 6 + unit, "l2": 5, "psnr": 30, "ssim": 0.5}
            lossless = storage == "lossless"
            row |= {"control_linf": 0 if lossless else 99, "control_l2": 0, "control_ssim": 1}
            rows.append(row | {"control_psnr": math.inf if lossless else 25})
    write(tmp_path, "vgg/conv1", design(), "storage.csv", table(STORAGE, *rows))
    more = {"compared": [design()], "storages": ["lossless", "jpeg-75"]}
    lossless, jpeg = storage_table(attacks_on(tmp_path, [design()], CONV1, **more)).to_dict("records")
    assert (lossless["storage"], jpeg["storage"]) == ("lossless", "jpeg-75")
    assert_share(lossless, ("manipulated", "low", "high"), 4, 4)
    assert_share(lossless, ("control_manipulated", "control_low", "control_high"), 0, 4)
    assert_share(jpeg, ("manipulated", "low", "high"), 1, 4)
    assert_share(jpeg, ("control_manipulated", "control_low", "control_high"), 2, 4)
    assert (jpeg["linf"], jpeg["psnr"], jpeg["control_linf"], jpeg["control_psnr"]) == (10, 30, 99, 25)
    assert math.isinf(lossless["control_psnr"])


def test_collateral(one, tmp_path):
    changed = {0: 2, 1: 0, 2: 9, 3: 4, 4: 10}  # of 20 other units
    rows = [
        {"unit": unit, "others": 20, "others_changed": n, "noise_others_changed": 1, "n_poisoned": 4}
        | {"top1_changed": 2 if unit else 0, "noise_top1_changed": 1, "clean_accuracy": 0.5, "accuracy": 0.25}
        for unit, n in changed.items()
    ]
    write(tmp_path, "vgg/conv1", design(), "collateral.csv", table(COLLATERAL, *rows))
    together = {"unit": -1, "others": 20, "others_changed": 5, "noise_others_changed": 2, "n_poisoned": 10}
    shared = design("shared")
    write(tmp_path, "vgg/conv1", shared, "collateral.csv", table(COLLATERAL, together))
    write(tmp_path, "vgg/conv1", shared, "dissection.csv", dissected())
    watched = attacks_on(tmp_path, [], CONV1, watched=[design(), shared])
    each, together = collateral_table(watched).to_dict("records")
    assert (each["units"], each["attacks"], each["images"], each["others"]) == (4, 4, 4, 20)
    rates = [0.1, 0, 0.2, 0.5]
    assert each["others_changed"] == pytest.approx(np.mean(rates))
    assert (each["others_low"], each["others_high"]) == pytest.approx(bootstrap_interval(rates, 0))
    assert each["noise_others_changed"] == pytest.approx(0.05)
    assert each["top1_changed"] == pytest.approx((0 + 3 * 0.5) / 4)
    assert (each["noise_top1_changed"], each["noise_top1_low"]) == pytest.approx((0.25, 0.25))
    assert (each["clean_accuracy"], each["accuracy"]) == (0.5, 0.25)
    assert (together["units"], together["attacks"]) == (4, 1)
    assert_share(together, ("others_changed", "others_low", "others_high"), 5, 20)
    assert math.isnan(together["top1_changed"]) and math.isnan(together["accuracy"])
    low, high = wilson_interval(5, 20)
    assert show_collateral(collateral_table(watched))["others_changed"][1] == (
        f"25% [{100 * low:.0f}, {100 * high:.0f}], n=1"
    )


def test_units_without_others_have_no_collateral(one, tmp_path):
    row = {"unit": 0, "others": 0, "others_changed": 0, "noise_others_changed": 0, "n_poisoned": 4}
    write(tmp_path, "vgg/conv1", design(), "collateral.csv", table(COLLATERAL, row))
    (line,) = collateral_table(attacks_on(tmp_path, [], CONV1, watched=[design()])).to_dict("records")
    assert (line["attacks"], line["others"]) == (1, 0)
    assert math.isnan(line["others_changed"]) and math.isnan(line["others_low"])


def test_quality_where_nothing_differs():
    rows = pd.DataFrame({"linf": [0.0, 0], "l2": [0.0, 0], "psnr": [math.inf, math.inf], "ssim": [1.0, 1]})
    assert summarise_quality(rows) == {"linf": 0, "l2": 0, "psnr": math.inf, "ssim": 1}
    assert all(math.isnan(value) for value in summarise_quality(rows[:0]).values())


def test_shares_are_shown_with_their_interval_and_n(one):
    shown = show_shares(designed_table(one))
    low, high = wilson_interval(3, 4)
    assert shown["manipulated"].tolist() == 2 * [f"75% [{100 * low:.0f}, {100 * high:.0f}], n=4"]
    assert shown["target_hit"][0] == "-"
    assert not {"low", "high", "hit_low", "null_high"} & set(shown.columns)
    assert "| 75% [" in to_markdown(shown)


def test_rows_are_text_and_numbers(tmp_path):
    write_csv(table(DISSECTION, {"unit": 3, "manipulated": True, "label": "", "source": "007"}), tmp_path / "a.csv")
    (row,) = read_outcomes(tmp_path / "a.csv").to_dict("records")
    assert (row["unit"], row["manipulated"], row["label"], row["source"]) == (3, 1, "", "007")
    assert math.isnan(row["target_iou"])
    write_csv(table(DISSECTION), tmp_path / "b.csv")
    assert read_outcomes(tmp_path / "b.csv").columns.tolist() == DISSECTION


def test_one_setting_is_drawn():
    rows = itertools.product(["fgsm", "pgd"], ["baseline", "segmentation"])
    settings = pd.DataFrame(rows, columns=["method", "masks"])
    assert choose_setting(settings).to_numpy().tolist() == [["pgd", "segmentation"]]
    assert choose_setting(settings[:1]).to_numpy().tolist() == [["fgsm", "baseline"]]
    assert choose_setting(settings[:0]).empty


def test_summary_of_the_attacks(one):
    labels = pd.DataFrame([{"probe": "scenes", "model": "vgg", "layer": layer} for layer in ("conv1", "conv2")])
    labels = labels.assign(units=5, labelled=4, null_churn=0.1, null_low=0.0, null_high=0.2)
    text = summary_text(labels, None, designed_table(one))
    low, high = wilson_interval(3, 4)
    assert text.count("conv2") == 1
    block = text[text.index("Designed corruption") :]
    assert "pgd, segmentation masks" in block and "eps 6/255" in block and "5% of the images" in block
    assert block.count(f"75% [{100 * low:.0f}, {100 * high:.0f}], n=4") == 2
    assert "25% [" in block and "noise, same size" in block
    assert "Designed" not in summary_text(labels, None)


def test_layers_of_a_network_belong_together():
    keys = [(model, layer, masks) for masks in "xy" for model in "ab" for layer in "12"]
    found = group_layers({("p", model, layer, "pgd", masks): layer for model, layer, masks in keys})
    assert list(found) == [("p", model, "pgd", masks) for model in "ab" for masks in "xy"]
    assert found["p", "b", "pgd", "x"] == {("p", "b", "1"): "1", ("p", "b", "2"): "2"}
