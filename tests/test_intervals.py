"""Intervals against values computed by hand."""

import math

import numpy as np
import pytest

from nemesis.scoring.intervals import bootstrap_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (10, 100, 0.0552, 0.1744),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 2, 0.0945, 0.9055),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(successes, n, low, high):
    assert wilson_interval(successes, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_solves_its_equation():
    z = 1.959963984540054
    for successes, n in ((3, 17), (40, 41), (2.5, 8)):
        for bound in wilson_interval(successes, n):
            assert abs(successes / n - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), rel=1e-9)


def test_wilson_stays_in_its_range():
    for n in (1, 2, 5, 1000):
        for successes in (0, n / 2, n):
            low, high = wilson_interval(successes, n)
            assert 0 <= low <= successes / n + 1e-15
            assert successes / n - 1e-15 <= high <= 1


def test_no_units_give_no_interval():
    assert all(math.isnan(bound) for bound in (*wilson_interval(0, 0), *bootstrap_interval([], 0)))


def test_bootstrap_is_near_the_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_interval(values, 0, replicates=5000)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_bootstrap_of_equal_values_and_of_one():
    assert bootstrap_interval([0.25] * 7, 1) == (0.25, 0.25)
    assert bootstrap_interval([2.0], 1) == (2.0, 2.0)


def test_bootstrap_repeats_itself():
    values = np.arange(9.0)
    assert bootstrap_interval(values, 1) == bootstrap_interval(values, 1)
    assert bootstrap_interval(values, 1, 50) != bootstrap_interval(values, 2, 50)
