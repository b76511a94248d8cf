"""Three sentences about what was found, from tables whose numbers are known."""

import pandas as pd

from nemesis.figures.headline import write_headline

PLACE = {"probe": "scenes", "model": "vgg"}


def noise_table():
    rows = [
        ("conv1", 0.02, 1.0, 50, 0.1, 0.05),
        ("conv1", 0.05, 0.5, 50, 0.9, 0.05),
        ("conv1", 0.05, 1.0, 50, 0.2, 0.05),
        ("conv2", 0.05, 1.0, 40, 0.6, 0.3),
        ("conv3", 0.05, 1.0, 0, float("nan"), float("nan")),
    ]
    names = ["layer", "std", "fraction", "units", "manipulated", "null_churn"]
    table = pd.DataFrame(rows, columns=names).assign(**PLACE, kind="gaussian")
    return table.assign(low=table["manipulated"] - 0.1, high=table["manipulated"] + 0.1)


def designed_table():
    rows = [
        ("conv1", 2, "untargeted", 4, 0.5, None, 0.0),
        ("conv1", 6, "untargeted", 4, 1.0, None, 0.25),
        ("conv2", 6, "untargeted", 5, 0.8, None, 0.0),
        ("conv2", 6, "targeted", 5, 1.0, 0.4, 0.0),
    ]
    names = ["layer", "eps", "mode", "units", "manipulated", "target_hit", "noise_manipulated"]
    table = pd.DataFrame(rows, columns=names).assign(**PLACE, method="pgd", masks="segmentation")
    return table.assign(fraction_poisoned=0.05)


def test_three_sentences():
    milan = noise_table().assign(null_churn=0.1)
    attacked = designed_table().rename(columns={"masks": "count"}).assign(count=30, images=30)
    tables = {"noise": noise_table(), "designed": designed_table(), "table_1": milan, "table_3": attacked}
    noise, designed, described = write_headline(tables)
    assert noise == (
        "Gaussian noise, std 0.05, on 100% of the images: 20% to 60% of a layer's labelled units are called something"
        " else, most in conv2 of vgg on scenes: 60% (95% interval 50 to 70%, n = 40), where resampling the clean images"
        " alone changes 30%."
    )
    assert designed.startswith(
        "Designed corruption (pgd, untargeted, eps 6/255, at most 5% of the images) relabels 8 of 9 attacked units (89%"
    )
    assert "noise of the same size on the same images 1 of 9 (11%" in designed
    assert "gives 2 of 5 (40%" in designed
    assert ": 34 of 90 texts (38%" in described and "resampling alone 9 of 90" in described
    assert "pgd (untargeted, eps 6/255, 30 images) 8 of 9" in described


def test_what_was_not_run_is_said():
    assert write_headline({}) == [
        "Random noise: no labels were compared.",
        "Designed corruption: no unit was attacked.",
        "Descriptions (MILAN): none were compared.",
    ]
    one = noise_table().iloc[[2]]
    assert ": 20% of a layer's" in write_headline({"noise": one})[0]
    assert write_headline({"noise": one.assign(kind="none", std=0.0)})[0].startswith("Storage alone, on 100% of")
    assert write_headline({"noise": one.assign(units=0)})[0] == "Random noise: no labels were compared."
