"""Rows computed in blocks of one fixed size, so that a row's result does not depend on its company.

The last bits of a matrix product depend on the shapes that go in, because libraries choose another
kernel, or another split over threads, for another number of rows. Where one choice is taken after
another, as in a beam search, that is enough to change a caption. Here every product has the same
shape, however many rows there are.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

BLOCK = 128


def in_blocks(function: Callable, *inputs: torch.Tensor, size: int = BLOCK):
    """function(*inputs) for inputs (B, ...), computed by `size` rows at a time.

    The last block is filled up with zeros, so `function` must treat each row by itself. It gives one
    tensor (size, ...) or a tuple of them; the result is what it would give for all rows.
    """
    count = len(inputs[0])
    parts = []
    for first in range(0, max(count, 1), size):
        part = function(*(_fill(rows[first : first + size], size) for rows in inputs))
        parts.append(part if isinstance(part, tuple) else (part,))
    whole = tuple(torch.cat(rows)[:count] if len(rows) > 1 else rows[0][:count] for rows in zip(*parts, strict=True))
    return whole if isinstance(part, tuple) else whole[0]


def _fill(rows: torch.Tensor, size: int) -> torch.Tensor:
    if len(rows) == size:
        return rows
    return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, size - len(rows)))
