"""Shares of manipulated units and null churn against numbers computed by hand."""

import math

import pytest
from label_rows import MIN_IOU, churn_rows, noise_rows

from nemesis.scoring.intervals import wilson_interval
from nemesis.scoring.shares import summarise_noise, summarise_null


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
