"""Tables of the designed stage against numbers computed by hand; figures are drawn from whatever there is."""

import itertools
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from nemesis.figures.control_tables import (
    collateral_table,
    minimum_curve,
    minimum_table,
    show_collateral,
    show_minimum,
    storage_table,
)
from nemesis.figures.designed import published_note
from nemesis.figures.noise import save_figure
from nemesis.figures.panels import spread
from PIL import Image

from nemesis.config import Design, Extraction
from nemesis.corruption.collateral import COLUMNS as COLLATERAL
from nemesis.corruption.designed import COLUMNS as DISSECTION
from nemesis.corruption.designed import CURVE as BUDGET
from nemesis.corruption.designed import STORAGE
from nemesis.corruption.minimum import COLUMNS as MINIMUM
from nemesis.dissection.upsample import upsample
from nemesis.figures.attacks import Attacks, choose_setting, read_rows
from nemesis.figures.designed_tables import (
    CATEGORIES,
    budget_table,
    category_table,
    designed_table,
    shared_table,
    show_shares,
    show_table_2,
    table_2,
)
from nemesis.figures.outputs import (
    choose_designs,
    controlled_designs,
    design_files,
    list_attacked,
    list_bisected,
    list_figures,
    list_tables,
)
from nemesis.figures.report import PLOTS, write_report
from nemesis.figures.tables import summary_text, to_markdown
from nemesis.figures.unit import choose_task, gather_example, plot_example, rank_images
from nemesis.files import write_csv
from nemesis.scoring.designed import summarise_minimum, summarise_quality, trace_minimum
from nemesis.scoring.intervals import bootstrap_interval, wilson_interval
from nemesis.stores import save_array, write_root, write_store

MIN_IOU = 0.04
TABLES = ["designed", "table_2", "targeted", *PLOTS, "minimum_epsilon_curve"]
CHURN = ["replicate", "unit", "label", "category", "iou", "changed"]
BISECTED = [{"method": "pgd", "masks": "segmentation"}]
BUDGETS = [0.005, 0.01, 0.02, 0.05, 0.1]
STORAGES = ["float", "lossless", "jpeg-95", "jpeg-75", "published"]
MODELS = {"vgg": ["conv1", "conv2", "conv3", "conv4", "conv5"], "lite": ["blocks.2", "blocks.10", "blocks.15"]}


def design(mode="untargeted", eps=6, method="pgd", masks="segmentation"):
    found = Design(method, eps, mode, masks)
    return vars(found) | {"name": found.name}


def table(columns, *rows, **constant):
    """Rows of the given columns; what is not given is empty."""
    return pd.DataFrame([dict.fromkeys(columns, "") | constant | row for row in rows], columns=columns)


def write(root, folder, name, rows):
    path = root / "scenes" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(rows, path)


def attacks_on(root, designs, models, **more):
    experiments = [{"probe": "scenes", "model": model, "layers": layers} for model, layers in models.items()]
    return Attacks(experiments, designs, MIN_IOU, 0, root=root, **more)


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


@pytest.fixture
def one(tmp_path):
    """One layer, attacked untargeted and targeted at eps 6; nothing but dissection.csv and null churn."""
    designs = [design(), design("targeted")]
    write(tmp_path, "vgg/conv1/clean", "null_churn.csv", churned())
    for found in designs:
        write(tmp_path, f"vgg/conv1/designed/{found['name']}", "dissection.csv", dissected())
    return attacks_on(tmp_path, designs, {"vgg": ["conv1"]})


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


def test_several_targets_of_a_unit_do_not_narrow_the_interval(one):
    twice = pd.concat([dissected(target="b"), dissected(target="c").assign(target_hit=False)])
    write(one.root, f"vgg/conv1/designed/{design('targeted')['name']}", "dissection.csv", twice)
    line = designed_table(one).to_dict("records")[1]
    assert (line["units"], line["attacks"]) == (4, 8)
    assert (line["target_hit"], line["hit_low"]) == pytest.approx((2 / 8, wilson_interval(1, 4)[0]))
    assert line["null_churn"] == pytest.approx(3 / 16)


def test_published_values_stand_beside_the_papers_networks_only(one, tmp_path):
    for model in ("vgg16_places365", "lite"):
        shutil.copytree(tmp_path / "scenes/vgg", tmp_path / "broden1_224" / model)
    experiments = [{"probe": "broden1_224", "model": m, "layers": ["conv1"]} for m in ("vgg16_places365", "lite")]
    found = designed_table(Attacks(experiments, one.designs, MIN_IOU, 0, root=tmp_path))
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


def test_categories(one):
    write(one.root, "vgg/conv2/clean", "null_churn.csv", churned())
    for found in one.designs:
        write(one.root, f"vgg/conv2/designed/{found['name']}", "dissection.csv", dissected())
    both = attacks_on(one.root, one.designs, {"vgg": ["conv1", "conv2"]})
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


def test_budgets(one):
    rows = []
    for unit, (iou, *_) in UNITS.items():
        for budget, least in ((0.005, 3), (0.1, 1)):
            flags = {"manipulated": unit >= least, "target_hit": unit == 4}
            rows.append({"unit": unit, "clean_iou": iou, "budget": budget, "n_poisoned": unit} | flags)
    write(one.root, f"vgg/conv1/designed/{design()['name']}", "budget.csv", table(BUDGET, *rows))
    few = attacks_on(one.root, [design()], {"vgg": ["conv1"]}, budgets=[0.005, 0.02, 0.1])
    small, absent, large = budget_table(few).to_dict("records")
    assert_share(small, ("manipulated", "low", "high"), 2, 4)  # units 3 and 4 of 0, 1, 3 and 4
    assert_share(large, ("manipulated", "low", "high"), 3, 4)
    assert math.isnan(large["target_hit"])
    assert (small["budget"], small["units"], small["images"]) == (0.005, 4, 2)
    assert (absent["units"], absent["attacks"]) == (0, 0)


def test_shared_attack_is_compared_over_the_same_units(one):
    rows = dissected()
    rows["manipulated"], rows["n_poisoned"] = [True, False, True, True, True], 10
    write(one.root, f"vgg/conv1/designed/{design('shared')['name']}", "dissection.csv", rows[rows["unit"] != 4])
    both = attacks_on(one.root, [design(), design("shared")], {"vgg": ["conv1"]})
    (line,) = shared_table(both).to_dict("records")
    assert (line["units"], line["shared_images"], line["untargeted_images"]) == (3, 10, (1 + 2 + 4) / 3)
    assert_share(line, ("shared", "shared_low", "shared_high"), 2, 3)  # units 0, 1 and 3
    assert_share(line, ("untargeted", "untargeted_low", "untargeted_high"), 2, 3)
    assert line["null_churn"] == pytest.approx(3 / 12)
    (line,) = shared_table(attacks_on(one.root, [design("shared")], {"vgg": ["conv1"]})).to_dict("records")
    assert line["units"] == 3
    assert math.isnan(line["untargeted"])


def test_minimum_epsilon(one):
    found = {0: 1, 1: 3, 2: 2, 3: "", 4: 20}  # above the highest that was tried: known from elsewhere
    rows = [
        {"unit": unit, "clean_iou": UNITS[unit][0], "clean_category": UNITS[unit][1], "minimum_epsilon": eps}
        for unit, eps in found.items()
    ]
    write(one.root, "vgg/conv1/designed", "minimum_epsilon-pgd-segmentation.csv", table(MINIMUM, *rows))
    attacks = attacks_on(one.root, [], {"vgg": ["conv1"]}, bisected=BISECTED, highest=4)
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


def test_storage(one):
    rows = []
    for unit, (iou, *_) in UNITS.items():
        for storage, changed, control in (("lossless", True, False), ("jpeg-75", unit == 0, unit in (0, 1, 2))):
            row = {"unit": unit, "clean_iou": iou, "storage": storage, "manipulated": changed, "target_hit": False}
            row |= {"control_manipulated": control, "linf": 6 + unit, "l2": 5, "psnr": 30, "ssim": 0.5}
            lossless = storage == "lossless"
            row |= {"control_linf": 0 if lossless else 99, "control_l2": 0, "control_ssim": 1}
            rows.append(row | {"control_psnr": math.inf if lossless else 25})
    write(one.root, f"vgg/conv1/designed/{design()['name']}", "storage.csv", table(STORAGE, *rows))
    more = {"compared": [design()], "storages": ["lossless", "jpeg-75"]}
    lossless, jpeg = storage_table(attacks_on(one.root, [design()], {"vgg": ["conv1"]}, **more)).to_dict("records")
    assert (lossless["storage"], jpeg["storage"]) == ("lossless", "jpeg-75")
    assert_share(lossless, ("manipulated", "low", "high"), 4, 4)
    assert_share(lossless, ("control_manipulated", "control_low", "control_high"), 0, 4)
    assert_share(jpeg, ("manipulated", "low", "high"), 1, 4)
    assert_share(jpeg, ("control_manipulated", "control_low", "control_high"), 2, 4)
    assert (jpeg["linf"], jpeg["psnr"], jpeg["control_linf"], jpeg["control_psnr"]) == (10, 30, 99, 25)
    assert math.isinf(lossless["control_psnr"])


def test_collateral(one):
    changed = {0: 2, 1: 0, 2: 9, 3: 4, 4: 10}  # of 20 other units
    rows = [
        {"unit": unit, "others": 20, "others_changed": n, "noise_others_changed": 1, "n_poisoned": 4}
        | {"top1_changed": 2 if unit else 0, "noise_top1_changed": 1, "clean_accuracy": 0.5, "accuracy": 0.25}
        for unit, n in changed.items()
    ]
    write(one.root, f"vgg/conv1/designed/{design()['name']}", "collateral.csv", table(COLLATERAL, *rows))
    together = {"unit": -1, "others": 20, "others_changed": 5, "noise_others_changed": 2, "n_poisoned": 10}
    shared = design("shared")
    write(one.root, f"vgg/conv1/designed/{shared['name']}", "collateral.csv", table(COLLATERAL, together))
    write(one.root, f"vgg/conv1/designed/{shared['name']}", "dissection.csv", dissected())
    watched = attacks_on(one.root, [], {"vgg": ["conv1"]}, watched=[design(), shared])
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


def test_units_without_others_have_no_collateral(one):
    row = {"unit": 0, "others": 0, "others_changed": 0, "noise_others_changed": 0, "n_poisoned": 4}
    write(one.root, f"vgg/conv1/designed/{design()['name']}", "collateral.csv", table(COLLATERAL, row))
    (line,) = collateral_table(attacks_on(one.root, [], {"vgg": ["conv1"]}, watched=[design()])).to_dict("records")
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
    (row,) = read_rows(tmp_path / "a.csv").to_dict("records")
    assert (row["unit"], row["manipulated"], row["label"], row["source"]) == (3, 1, "", "007")
    assert math.isnan(row["target_iou"])
    write_csv(table(DISSECTION), tmp_path / "b.csv")
    assert read_rows(tmp_path / "b.csv").columns.tolist() == DISSECTION


def test_one_setting_is_drawn():
    rows = itertools.product(["fgsm", "pgd"], ["baseline", "segmentation"])
    settings = pd.DataFrame(rows, columns=["method", "masks"])
    assert choose_setting(settings).to_numpy().tolist() == [["pgd", "segmentation"]]
    assert choose_setting(settings[:1]).to_numpy().tolist() == [["fgsm", "baseline"]]
    assert choose_setting(settings[:0]).empty
    assert spread([4, 2, 2]) == [2, 4]
    assert spread(range(1, 10)) == [1, 5, 9]


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


def plausible_layer(root, model, layer, depth, units, designs, rng):
    """All files of a layer: the deeper and the larger eps, the more units are changed."""
    write(root, f"{model}/{layer}/clean", "null_churn.csv", table(CHURN, *_plausible_churn(units, rng)))
    category = rng.choice(CATEGORIES[:5], units)
    clean = {"clean_iou": 0.05 + 0.2 * rng.random(units), "clean_category": category}
    strength = rng.random(units)
    for found in designs:
        folder, hits = f"{model}/{layer}/designed/{found['name']}", found["mode"] == "targeted"
        chance = min(0.97, (0.25 + 0.12 * depth) * found["eps"] / 4)
        rows = pd.DataFrame(clean | {"unit": range(units)})
        rows["manipulated"], rows["target_hit"] = strength < chance, hits & (strength < 0.6 * chance)
        rows["fixed_manipulated"] = rows["manipulated"]
        rows["fixed_target_hit"] = hits & (strength < 0.12 * found["eps"])
        rows["noise_manipulated"] = rng.random(units) < 0.3 * chance
        rows = rows.assign(n_poisoned=9, fraction_poisoned=0.09, linf=found["eps"], l2=300, psnr=38, ssim=0.97)
        write(root, folder, "dissection.csv", rows.reindex(columns=DISSECTION))
        parts = [
            rows.assign(budget=b, n_poisoned=round(100 * b), manipulated=strength < chance * (b / 0.1) ** 0.4)
            for b in BUDGETS
        ]
        write(root, folder, "budget.csv", pd.concat(parts).reindex(columns=BUDGET))
        kept = dict(zip(STORAGES, (1, 1, 0.8, 0.5, 0.45), strict=True))
        lost = dict(zip(STORAGES, (0, 0, 0.1, 0.3, 0.35), strict=True))
        parts = [
            rows.assign(storage=name, manipulated=strength < chance * kept[name])
            .assign(control_manipulated=rng.random(units) < lost[name])
            .assign(control_linf=0, control_l2=0, control_psnr=math.inf, control_ssim=1)
            for name in STORAGES
        ]
        write(root, folder, "storage.csv", pd.concat(parts).reindex(columns=STORAGE))
        one = rows[:1].assign(unit=-1) if found["mode"] == "shared" else rows
        one = one.assign(others=80, others_changed=rng.integers(4, 14, len(one)), top1_changed=3, noise_top1_changed=1)
        one["noise_others_changed"] = rng.integers(2, 8, len(one))
        write(root, folder, "collateral.csv", one.reindex(columns=COLLATERAL))
    least = np.ceil(strength * 4 / (0.25 + 0.12 * depth))
    least = pd.DataFrame(clean | {"unit": range(units), "minimum_epsilon": np.where(least > 16, np.nan, least)})
    write(root, f"{model}/{layer}/designed", "minimum_epsilon-pgd-segmentation.csv", least.reindex(columns=MINIMUM))


def _plausible_churn(units, rng):
    return [{"replicate": r, "unit": u, "changed": rng.random() < 0.3} for r in range(4) for u in range(units)]


def plausible(root, models, units, eps=(2, 4, 6), modes=("untargeted", "targeted", "shared")):
    """Attacks on several layers of several networks, with their files."""
    rng = np.random.default_rng(0)
    designs = [design(mode, size) for size in eps for mode in modes]
    for model, layers in models.items():
        for depth, layer in enumerate(layers):
            plausible_layer(root, model, layer, depth, units, designs, rng)
    largest = [found for found in designs if found["eps"] == max(eps) and found["mode"] != "targeted"]
    more = {"budgets": BUDGETS, "storages": STORAGES, "compared": largest, "watched": largest}
    return attacks_on(root, designs, models, bisected=BISECTED, highest=16, **more)


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
    designed = write_report(plausible(tmp_path, models, units, eps), TABLES, PLOTS, tmp_path)
    names = [f"tables/{name}.{ending}" for name in TABLES for ending in ("csv", "md")]
    names += [f"figures/{name}.{ending}" for name in PLOTS for ending in ("svg", "png")]
    assert [name for name in names if not (tmp_path / name).stat().st_size] == []
    assert designed["units"].tolist() == [units] * len(designed)
    for name in PLOTS:
        with Image.open(tmp_path / f"figures/{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5, name
    if not units:
        assert (show_shares(designed)["manipulated"] == "-").all()


@pytest.mark.parametrize("mode", ["untargeted", "targeted", "shared"])
@pytest.mark.filterwarnings("error")
def test_one_mode_alone(tmp_path, mode):
    tables = {"untargeted": ["table_2", "figure_6"], "targeted": ["table_2", "targeted"], "shared": ["shared"]}[mode]
    tables += ["budget", "figure_4"] if mode != "shared" else ["budget", "collateral"]
    attacks = plausible(tmp_path, {"vgg": ["conv1"]}, 4, (6,), (mode,))
    designed = write_report(attacks, tables, [name for name in tables if name != "table_2"], tmp_path)
    labels = designed[["probe", "model", "layer", "units", "null_churn", "null_low", "null_high"]]
    text = summary_text(labels.assign(labelled=4), None, designed)
    assert f"{mode} " in text[text.index("Designed") :]


def test_figures_are_the_same_again(tmp_path):
    for place in ("a", "b"):
        attacks = plausible(tmp_path / place, {"vgg": ["conv1"]}, 5, (6,), ("untargeted",))
        write_report(attacks, ["figure_6", "storage"], ["figure_6", "storage"], tmp_path / place)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / place / "figures").iterdir()} for place in ("a", "b")
    )
    assert first == second


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_to_draw_is_said(name):
    plot, _ = PLOTS[name]
    columns = ["probe", "model", "layer", "method", "eps", "mode", "masks", "shared", "untargeted"]
    text = " ".join(found.get_text() for found in plot(pd.DataFrame(columns=columns)).texts)
    assert "nothing to draw" in text


SECTION = {"modes": ["untargeted"], "methods": ["pgd"], "masks": ["segmentation"], "budgets": [0.1]}


def test_outputs_follow_from_the_config():
    whole = SECTION | {"modes": ["untargeted", "targeted", "shared"]}
    whole |= {"minimum_epsilon": {}, "compare_storage": {}, "collateral": {}}
    assert set(list_tables(whole)) == set(TABLES)
    assert set(list_figures(whole)) == set(PLOTS)
    assert list_tables({}) == list_figures({}) == []
    assert list_tables(SECTION) == ["designed", "table_2", "figure_4", "figure_6", "budget"]
    assert "table_2" not in list_tables(SECTION | {"methods": ["fgsm"]})
    assert list_tables(SECTION | {"modes": ["shared"], "budgets": []}) == ["designed", "shared"]
    assert list_figures(SECTION | {"modes": ["targeted"]}) == ["figure_4", "targeted", "budget"]


def test_attacked_layers_and_their_files():
    extractions = [Extraction("p", "a", ("x", "y"), {}), Extraction("p", "b", ("z",), {})]
    found = list_attacked(extractions, {"layers": ["y"]})
    assert found == [{"probe": "p", "model": "a", "layers": ["y"]}]
    assert [line["layers"] for line in list_attacked(extractions, {"layers": "all"})] == [["x", "y"], ["z"]]
    assert list_attacked(extractions, {}) == []
    assert design_files(found, ["n"], "d.csv") == ["results/p/a/y/designed/n/d.csv"]
    assert design_files(found, ["m.csv"]) == ["results/p/a/y/designed/m.csv"]


def test_which_attacks_are_looked_at_again():
    modes, masks = ["shared", "targeted", "untargeted"], ["baseline", "segmentation"]
    designs = [Design(*kind) for kind in itertools.product(["fgsm", "pgd"], [6, 2], modes, masks)]
    assert [design.name for design in choose_designs(designs)] == [
        *("pgd-2-untargeted-segmentation", "pgd-6-untargeted-segmentation")
    ]
    assert [design.mode for design in choose_designs(designs[:2])] == ["shared"]
    section = {"modes": modes, "collateral": {"eps": [6]}}
    found = controlled_designs(designs, section, "collateral")
    assert {(design.mode, design.eps) for design in found} == {("shared", 6), ("untargeted", 6)}
    assert controlled_designs(designs, section, "compare_storage") == []
    targeted = controlled_designs(designs, section | {"modes": ["targeted"]}, "collateral")
    assert {design.mode for design in targeted} == {"targeted"}
    assert controlled_designs([], {}, "collateral") == []
    assert list_bisected(SECTION) == list_bisected({}) == []
    assert list_bisected(SECTION | {"minimum_epsilon": {}}) == BISECTED


# Figure 3: 4 images of 8 x 8, maps of 2 x 2, units 0 to 2; unit 2 is attacked on images 1 and 3.
MAX = np.array([[1, 2, 3, 4], [0, 0, 0, 0], [5, 9, 7, 8]], np.float16)


@pytest.fixture
def files(tmp_path):
    """The files of figure 3 and a function that writes its dissection.csv tables."""
    images = np.full((4, 3, 8, 8), 100, np.uint8)
    with write_store(tmp_path / "probe.zarr", categories=["object"]) as group:
        save_array(group, "images", images, ("image", "channel", "y", "x"), "", (2, 3, 8, 8))
    maps = np.zeros((3, 4, 2, 2), np.float16)
    maps[:, :, 0, 0] = MAX
    with write_store(tmp_path / "maps.zarr" / "conv1") as group:
        save_array(group, "maps", maps, ("unit", "image", "y", "x"), "")
        save_array(group, "max", MAX, ("unit", "image"), "")
        save_array(group, "image", np.arange(4), ("image",), "")
    write_root(tmp_path / "maps.zarr")
    with write_store(tmp_path / "tally.zarr", concepts=["", "cat", "dog"]) as group:
        save_array(group, "iou", np.array([[0, 0.1, 0.2]] * 2 + [[0, 0.3, 0.05]]), ("unit", "concept"), "")
    clean = pd.DataFrame({"unit": [0, 1, 2], "label": ["dog", "dog", "cat"], "number": [2, 2, 1]})
    write_csv(clean, tmp_path / "clean.csv")
    names = ("probe", "maps", "tally", "poison", "poisoned_maps")
    found = SimpleNamespace(**{name: str(tmp_path / f"{name}.zarr" / "zarr.json") for name in names})
    found.clean = str(tmp_path / "clean.csv")
    found.tables = [str(tmp_path / f"{eps}.csv") for eps in (2, 6)]
    return found


def attack_files(files, tmp_path, task=(0, 1, 1), shared=False, manipulated=(False, True)):
    """Two tasks, units 0 and 2; rows: image 0 of task 0, images 1 and 3 of task 1."""
    delta = np.zeros((3, 3, 8, 8), np.int8)
    delta[1], delta[2] = -6, 6
    shown = np.zeros((3, 2, 2), np.float16)
    shown[1:, 1, 1] = (1, 20)  # image 1 falls from 9 to 1, image 3 rises from 8 to 20
    with write_store(tmp_path / "poison.zarr") as group:
        save_array(group, "task", np.array(task, np.int32), ("row",), "")
        save_array(group, "image", np.array([0, 1, 3], np.int32), ("row",), "")
        save_array(group, "delta", delta, ("row", "channel", "y", "x"), "1/255")
    with write_store(tmp_path / "poisoned_maps.zarr") as group:
        maps = np.stack([np.zeros_like(shown), shown], axis=1) if shared else shown
        save_array(group, "maps", maps, ("row", "task", "y", "x") if shared else ("row", "y", "x"), "")
    for path, label, iou in zip(files.tables, ("cat", "dog"), (0.2, 0.4), strict=True):
        rows = [
            {"unit": unit, "clean_iou": clean, "source": source, "label": label, "manipulated": changed, "iou": iou}
            | {"source_iou": 0.1, "threshold": 6.0, "clean_threshold": 6.5}
            for unit, clean, source, changed in zip((0, 2), (0.2, 0.3), ("dog", "cat"), manipulated, strict=True)
        ]
        write_csv(table(DISSECTION, *rows), path)


def test_the_example_is_the_manipulated_unit_with_the_highest_clean_iou():
    rows = pd.DataFrame({"clean_iou": [0.2, 0.5, 0.3], "manipulated": [1.0, 0.0, 1.0]}, index=[7, 7, 7])
    assert choose_task(rows) == 2
    assert choose_task(rows.assign(manipulated=0.0)) is None
    assert choose_task(rows[:0]) is None
    assert rank_images(np.array([1, 5, 3, 5, 2, 0])).tolist() == [1, 3, 2, 4, 0]


@pytest.mark.parametrize(("task", "shared"), [((0, 1, 1), False), ((-1, -1, -1), True)])
def test_example(files, tmp_path, task, shared):
    attack_files(files, tmp_path, task, shared)
    example = gather_example(files, [2, 6], "conv1")
    assert (example.unit, example.poisoned, example.images) == (2, 3 if shared else 2, 4)
    clean, same, new = (pictures for _, pictures in example.rows)
    assert [p.number for p in clean] == [p.number for p in same] == [1, 3, 2, 0]
    assert [p.number for p in new] == [3, 2, 1, 0] if shared else [3, 2, 0, 1]
    assert not any(p.poisoned for p in clean)
    assert [p.number for p in same if p.poisoned] == ([1, 3, 0] if shared else [1, 3])
    assert [float(255 * p.image.max()) for p in same[:3]] == pytest.approx([94, 106, 100])
    maps = {"clean": [[9, 0], [0, 0]], "new": [[0, 0], [0, 20]]}
    assert (clean[0].mask == (upsample(np.array(maps["clean"], np.float32), (8, 8)) > 6.5)).all()
    assert (same[1].mask == (upsample(np.array(maps["new"], np.float32), (8, 8)) > 6)).all()
    assert not same[0].mask.any()
    assert example.curve["eps"].tolist() == [0, 2, 6]
    assert example.curve["source_iou"].tolist() == [0.3, 0.1, 0.1]
    assert example.curve["iou"].tolist() == [0.05, 0.2, 0.4]  # at 0 that of dog
    assert example.curve["label"].tolist() == ["dog", "cat", "dog"]
    figure = plot_example(example, ("scenes", "vgg", "conv1"), 6)
    assert "cat (IoU 0.300)" in figure.get_suptitle() and "dog (0.400)" in figure.get_suptitle()
    save_figure(figure, tmp_path / "figure_3.png", tmp_path / "figure_3.svg")


def test_no_example(files, tmp_path):
    attack_files(files, tmp_path, manipulated=(False, False))
    assert gather_example(files, [2, 6], "conv1") is None
    for path in files.tables:
        write_csv(table(DISSECTION), path)
    assert gather_example(files, [2, 6], "conv1") is None
    figure = plot_example(None, ("scenes", "vgg", "conv1"), 6)
    assert "no unit was manipulated at eps 6/255" in figure.texts[0].get_text()
    save_figure(figure, tmp_path / "figure_3.png", tmp_path / "figure_3.svg")
