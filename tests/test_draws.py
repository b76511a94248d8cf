"""Which units an experiment is about."""

import pandas as pd
import pytest

from nemesis.dissection.draws import select_units
from nemesis.errors import InputError


@pytest.fixture
def clean():
    return pd.DataFrame({"unit": range(20), "iou": [0.01 * unit for unit in range(20)]})


def select(setting, clean, min_iou=0.1, seed=0):
    return select_units(setting, clean, min_iou, seed, "conv5").tolist()


def test_all(clean):
    assert select("all", clean) == list(range(20))


def test_a_list_is_sorted_and_kept_whatever_its_iou(clean):
    assert select([7, 0, 19], clean) == [0, 7, 19]


def test_a_number_draws_among_units_with_a_label(clean):
    drawn = select(4, clean)
    assert len(drawn) == 4
    assert drawn == sorted(drawn)
    assert set(drawn) <= set(range(10, 20))
    assert select(4, clean) == drawn
    assert {tuple(select(4, clean, seed=seed)) for seed in range(20)} != {tuple(drawn)}
    assert {unit for seed in range(60) for unit in select(4, clean, seed=seed)} == set(range(10, 20))
    assert set(select(3, clean)) <= set(drawn)


def test_the_smallest_iou_with_a_label_counts(clean):
    assert select(20, clean, min_iou=clean["iou"][10]) == list(range(10, 20))
    assert select(20, clean, min_iou=0) == list(range(20))
    assert select(20, clean, min_iou=0.5) == []


def test_a_unit_that_is_not_there(clean):
    with pytest.raises(InputError, match="layer conv5 has no unit 20; it has units 0 to 19"):
        select([3, 20], clean)
