"""One step of decoding for many rows and all their beams together.

What a state sees does not depend on the word that comes next, so beams with a common parent look at
the exemplars once. Everything is computed in blocks of a fixed size: see blocks.py.

Shapes: B rows of a chunk, n exemplars, F features, U states that beams go on from, L live beams.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nemesis.milan.blocks import in_blocks
from nemesis.milan.decoder import Decoder
from nemesis.milan.language import LanguageModel, update_cell
from nemesis.milan.text import Vocabulary

ROWS = 8  # rows whose features are worked on at once


@dataclass(frozen=True)
class Model:
    """What gives each word its value: log p(w|E), and with a language model less temperature * log p(w)."""

    vocabulary: Vocabulary
    decoder: Decoder
    language: LanguageModel | None
    temperature: float


@dataclass(frozen=True)
class Scene:
    """What the rows of a chunk show: features (B, n, F) and their keys (B, n, A)."""

    features: torch.Tensor
    keys: torch.Tensor


@dataclass(frozen=True)
class Cells:
    """Live beams: the row (L,) of each, ascending, and their states (L, ...): h, c, and the language model's h, c."""

    row: torch.Tensor
    state: tuple[torch.Tensor, ...]


def begin(model: Model, features: torch.Tensor) -> tuple[Scene, Cells]:
    """The scene of features (B, n, F), and one cell a row that has heard nothing yet."""

    def start(features):
        state = model.decoder.begin(features)
        return state.h, state.c, state.keys

    h, c, keys = in_blocks(start, features, size=ROWS)
    prior = () if model.language is None else model.language.begin(len(features))
    return Scene(features, keys), Cells(torch.arange(len(features), device=features.device), (h, c, *prior))


def advance(model: Model, scene: Scene, cells: Cells, origin, word, width: int, pick: Callable):
    """Let beams that stand at the cells `origin` (L,), ascending by row, go on with `word` (L,).

    width: most beams of a row. pick(values (L, size)) gives a tuple of what is wanted of the next words'
    values. Returns the new cells, the attention (L, n) that was paid, and what was picked.
    """
    decoder, language = model.decoder, model.language
    used, place = torch.unique(origin, return_inverse=True)
    row, h = cells.row[used], cells.state[0][used]
    attention = in_blocks(lambda h, row: decoder.attend(h, scene.keys[row]), h, row)  # (U, n)
    gates = in_blocks(decoder.read, h, _look_by_row(attention, row, scene, width))  # (U, 4H)

    def take(place, origin, word):
        c, *prior = (part[origin] for part in cells.state[1:])
        h, c = update_cell(gates[place] + decoder.hear(word), c)
        values = decoder.output(h)  # (L, size)
        if language is None:
            return h, c, *pick(values)
        log_prior, *prior = language.step(word, *prior)
        return h, c, *prior, *pick(values - model.temperature * log_prior)

    found = in_blocks(take, place, origin, word)
    parts = len(cells.state)
    return Cells(cells.row[origin], found[:parts]), attention[place], found[parts:]


def _look_by_row(attention: torch.Tensor, row: torch.Tensor, scene: Scene, width: int) -> torch.Tensor:
    """Contexts (U, F) of states, ascending by row; a row's features are read once for all its states."""
    rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)  # among its row's states
    weights = attention.new_zeros(len(scene.features), width, attention.shape[1])
    weights[row, rank] = attention
    return in_blocks(torch.bmm, weights, scene.features, size=ROWS)[row, rank]
