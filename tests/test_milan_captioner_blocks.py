"""Rows in blocks: the same result as at once, and the same bits in whatever company."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from nemesis.milan.captioner import BLOCK, in_blocks

pytestmark = pytest.mark.arithmetic

WIDE = torch.randn(300, 3904, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(64, 3904, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 20, 21])
def test_blocks_give_what_the_whole_gives(count):
    rows, numbers = torch.randn(count, 3, 2), torch.arange(count)
    shapes = []

    def function(rows, numbers):
        shapes.append((len(rows), len(numbers)))
        return rows.sum(dim=1), numbers * 2

    sums, doubled = in_blocks(function, rows, numbers, size=7)
    assert torch.equal(sums, rows.sum(dim=1))
    assert torch.equal(doubled, numbers * 2)
    assert set(shapes) == {(7, 7)}
    assert torch.equal(in_blocks(torch.neg, rows, size=7), -rows)


@given(st.lists(st.integers(0, 299), min_size=1, max_size=2 * BLOCK + 1))
def test_a_product_has_the_same_bits_in_any_company(rows):
    whole = in_blocks(lambda rows: F.linear(rows, WEIGHT), WIDE)
    assert torch.equal(in_blocks(lambda rows: F.linear(rows, WEIGHT), WIDE[rows]), whole[rows])
