"""A captioner: the decoder p(c | exemplars) and the language model p(c), and one step of both for many beams together.

As the published MILAN has the two networks (Hernandez et al., ICLR 2022); their parameters carry the published names.
What a state sees does not depend on the word that comes next, so beams with a common parent look at the exemplars
once. Steps are computed in blocks of a fixed size, see in_blocks.

Shapes: B rows, n exemplars, F features, H hidden, A attention, T words, U states that beams go on from, L live beams.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from nemesis.milan.text import Vocabulary

BLOCK = 128  # rows of one product, see in_blocks
SEQUENCES = 4096  # sequences whose states are held at once
SETTINGS = {"length": 15, "strategy": "rerank", "beam": 50, "temperature": 0.2}
ROWS = 8  # rows whose features are worked on at once


def in_blocks(function: Callable, *inputs: torch.Tensor, size: int = BLOCK):
    """function(*inputs) for inputs (B, ...), computed by `size` rows at a time.

    The last bits of a matrix product depend on the shapes that go in, because libraries choose another kernel, or
    another split over threads, for another number of rows. Where one choice is taken after another, as in a beam
    search, that is enough to change a caption. Here every product has the same shape, so that a row's result does not
    depend on the rows beside it. The last block is filled up with zeros, so `function` must treat each row by itself.
    It gives one tensor (size, ...) or a tuple of them; the result is what it would give for all rows.
    """
    count = len(inputs[0])
    parts = []
    for first in range(0, max(count, 1), size):
        part = function(*(_fill(rows[first : first + size], size) for rows in inputs))
        parts.append(part if isinstance(part, tuple) else (part,))
    whole = tuple(torch.cat(rows)[:count] if len(rows) > 1 else rows[0][:count] for rows in zip(*parts, strict=True))
    return whole if isinstance(part, tuple) else whole[0]


class LanguageModel(nn.Module):
    """log p(next word | words before it) over `size` entries; the entry `pad` is embedded as zeros."""

    def __init__(self, size: int, pad: int, embedding=128, hidden=512, layers=2, dropout=0.5):
        super().__init__()
        self.sizes = {"embedding": embedding, "hidden": hidden, "layers": layers, "dropout": dropout}
        self.embedding = nn.Embedding(size, embedding, padding_idx=pad)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(embedding, hidden, layers, dropout=between, batch_first=True)
        self.output = nn.Sequential(nn.Linear(hidden, size), nn.LogSoftmax(dim=-1))

    def forward(self, ids: torch.Tensor, state=None):
        """Log-probabilities (B, T, size) of what follows each of `ids` (B, T), and the state after them.

        state: h and c, each (layers, B, H); None is the start of a sequence, all zeros.
        """
        hidden, state = self.lstm(self.embedding(ids), state)
        return self.output(hidden), state

    def begin(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """States h, c (count, layers, H) at the start of sequences, for `step`."""
        shape = (count, self.sizes["layers"], self.sizes["hidden"])
        zeros = self.embedding.weight.new_zeros(shape)
        return zeros, zeros

    def step(self, word: torch.Tensor, h: torch.Tensor, c: torch.Tensor):
        """Log-probabilities (B, size) after `word` (B,), and the new h, c (B, layers, H); never drops out."""
        below, states = self.embedding(word), []
        for layer in range(self.sizes["layers"]):
            names = (f"weight_ih_l{layer}", f"bias_ih_l{layer}", f"weight_hh_l{layer}", f"bias_hh_l{layer}")
            weight_ih, bias_ih, weight_hh, bias_hh = (getattr(self.lstm, name) for name in names)
            gates = F.linear(below, weight_ih, bias_ih) + F.linear(h[:, layer], weight_hh, bias_hh)
            below, cell = update_cell(gates, c[:, layer])
            states.append((below, cell))
        h, c = (torch.stack(parts, dim=1) for parts in zip(*states, strict=True))
        return self.output(below), h, c


def update_cell(gates: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """New h, c (B, H) of an LSTM from its gates (B, 4H) before their nonlinearities, in torch's order i, f, g, o."""
    i, f, g, o = gates.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@torch.inference_mode()
def sequence_log_probability(model: LanguageModel, ids: torch.Tensor, stop: int, published: bool = False):
    """log p of each sequence (B,); `ids` (B, T) begin with start.

    Words count up to and including the first stop. published: so does the one entry after that stop,
    where there is one, as in the published code; it makes the result depend on the array's width.
    Sequences share their common beginnings, so thousands of similar ones cost little. A sequence's
    result does not depend on the others. Nothing is dropped out, in whatever mode the model is.
    """
    ends = ids[:, 1:] == stop
    counts = ends.cumsum(dim=1) - ends.long() == 0  # (B, T - 1): no stop before
    if published:
        counts[:, 1:] |= counts[:, :-1].clone()
    parts = zip(ids.split(SEQUENCES), counts.split(SEQUENCES), strict=True)
    return torch.cat([_sum_log_probabilities(model, *part) for part in parts])


@dataclass(frozen=True)
class State:
    """h, c (B, H) after the words so far, and the exemplars' keys (B, n, A), which never change."""

    h: torch.Tensor
    c: torch.Tensor
    keys: torch.Tensor


class Attention(nn.Module):
    """Which exemplar to look at: additive attention of a query over keys."""

    def __init__(self, query: int, key: int, hidden: int):
        super().__init__()
        self.query_to_hidden = nn.Linear(query, hidden)
        self.key_to_hidden = nn.Linear(key, hidden)
        self.output = nn.Sequential(nn.Linear(hidden, 1), nn.Flatten(1), nn.Softmax(dim=1))

    def forward(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Weights (B, n), of sum 1, for a query (B, H) and keys (B, n, A) that key_to_hidden made."""
        return self.output((self.query_to_hidden(query)[:, None] + keys).tanh())


class Decoder(nn.Module):
    """log p(next word | words before it, exemplars) over `size` entries.

    attention: its hidden size, by default the smaller of `hidden` and `features`.
    """

    def __init__(self, features: int, size: int, embedding=128, hidden=512, attention=None, dropout=0.5):
        super().__init__()
        attention = attention or min(hidden, features)
        self.sizes = {"features": features, "embedding": embedding, "hidden": hidden}
        self.sizes |= {"attention": attention, "dropout": dropout}
        self.init_h = nn.Sequential(nn.Linear(features, hidden), nn.Tanh())
        self.init_c = nn.Sequential(nn.Linear(features, hidden), nn.Tanh())
        self.embedding = nn.Embedding(size, embedding)
        self.attend = Attention(hidden, features, attention)
        self.feature_gate = nn.Sequential(nn.Linear(hidden, features), nn.Sigmoid())
        self.lstm = nn.LSTMCell(embedding + features, hidden)
        self.output = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, size), nn.LogSoftmax(dim=-1))

    def begin(self, features: torch.Tensor) -> State:
        """The state before the first word, from features (B, n, F)."""
        mean = features.mean(dim=1)  # (B, F)
        return State(self.init_h(mean), self.init_c(mean), self.attend.key_to_hidden(features))

    def advance(self, word_gates: torch.Tensor, state: State, features: torch.Tensor) -> tuple[torch.Tensor, State]:
        """Attention (B, n) that the exemplars of features (B, n, F) get, and the state after one more word.

        word_gates: (B, 4H), see the method of that name. `output` of the new h gives log p of the words that follow.
        """
        attention = self.attend(state.h, state.keys)  # (B, n)
        gates = self.context_gates(state.h, mean_features(attention, features))  # (B, 4H)
        h, c = update_cell(gates + word_gates, state.c)
        return attention, State(h, c, state.keys)

    def force(self, features: torch.Tensor, inputs: torch.Tensor, row: torch.Tensor | None = None):
        """Log-probabilities (B, T, size) and attentions (B, T, n) when the words `inputs` (B, T) are given.

        features: (B, n, F); with `row` (B,) they are (U, n, F), and caption b belongs to features[row[b]].
        """
        state = self.begin(features)
        if row is not None:
            features, state = features[row], State(state.h[row], state.c[row], state.keys[row])
        gates = self.word_gates(inputs)  # (B, T, 4H)
        hidden, attentions = [], []
        for t in range(inputs.shape[1]):
            attention, state = self.advance(gates[:, t], state, features)
            attentions.append(attention)
            hidden.append(state.h)
        return self.output(torch.stack(hidden, dim=1)), torch.stack(attentions, dim=1)

    def context_gates(self, h: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """What the state h (B, H) and the context (B, F), see mean_features, add to the LSTM's gates (B, 4H)."""
        gated = self.feature_gate(h) * context  # (B, F)
        weight = self.lstm.weight_ih[:, self.embedding.embedding_dim :]  # (4H, F)
        return F.linear(gated, weight) + F.linear(h, self.lstm.weight_hh, self.lstm.bias_hh)

    def word_gates(self, word: torch.Tensor) -> torch.Tensor:
        """What words (...) add to the LSTM's gates (..., 4H)."""
        weight = self.lstm.weight_ih[:, : self.embedding.embedding_dim]  # (4H, E)
        return F.linear(self.embedding(word), weight, self.lstm.bias_ih)


def mean_features(attention: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The context (B, F): features (B, n, F) of the exemplars, averaged with the weights `attention` (B, n)."""
    return torch.bmm(attention[:, None], features)[:, 0]


@dataclass(frozen=True)
class Captioner:
    """All that describing needs: vocabulary, decoder, language model, and which encoder the features come from.

    encoder: {"kind": "efficientnet_lite0" | "torchvision", "arch", "layers": [...], "size": px}.
    settings: length, strategy, beam and temperature unless a caller says otherwise.
    encoder_state: the encoder's weights by name where a checkpoint brought them.
    """

    vocabulary: Vocabulary
    decoder: Decoder
    language: LanguageModel | None
    encoder: dict
    settings: dict = field(default_factory=lambda: dict(SETTINGS))
    encoder_state: dict | None = None


@dataclass(frozen=True)
class WordModel:
    """What gives each word its value: log p(w|E), and with a language model less temperature * log p(w)."""

    vocabulary: Vocabulary
    decoder: Decoder
    language: LanguageModel | None
    temperature: float


@dataclass(frozen=True)
class Memory:
    """What the rows of a chunk are described from: features (B, n, F) of their exemplars and the keys (B, n, A)."""

    features: torch.Tensor
    keys: torch.Tensor


@dataclass(frozen=True)
class Beams:
    """Live beams: the row (L,) of each, ascending, and their states (L, ...): h, c, and the language model's h, c.

    width: most beams of a row.
    """

    row: torch.Tensor
    state: tuple[torch.Tensor, ...]
    width: int


def start_beams(model: WordModel, features: torch.Tensor, width: int) -> tuple[Memory, Beams]:
    """The memory of features (B, n, F), and one beam per row, without a word yet; later a row has up to `width`."""

    def start(features):
        state = model.decoder.begin(features)
        return state.h, state.c, state.keys

    h, c, keys = in_blocks(start, features, size=ROWS)
    prior = () if model.language is None else model.language.begin(len(features))
    row = torch.arange(len(features), device=features.device)
    return Memory(features, keys), Beams(row, (h, c, *prior), width)


def extend_beams(model: WordModel, memory: Memory, beams: Beams, origin, word, pick: Callable):
    """Let copies of the beams `origin` (L,), ascending by row, go on with `word` (L,).

    pick(values (L, size)) gives a tuple of what is wanted of the next words' values. Returns the new beams, the
    attention (L, n) of each, and what was picked.
    """
    decoder, language = model.decoder, model.language
    used, place = torch.unique(origin, return_inverse=True)
    row, h = beams.row[used], beams.state[0][used]
    attention = in_blocks(lambda h, row: decoder.attend(h, memory.keys[row]), h, row)  # (U, n)
    gates = in_blocks(decoder.context_gates, h, _mean_by_row(attention, row, memory, beams.width))  # (U, 4H)

    def take(place, origin, word):
        c, *prior = (part[origin] for part in beams.state[1:])
        h, c = update_cell(gates[place] + decoder.word_gates(word), c)
        values = decoder.output(h)  # (L, size)
        if language is None:
            return h, c, *pick(values)
        log_prior, *prior = language.step(word, *prior)
        return h, c, *prior, *pick(values - model.temperature * log_prior)

    found = in_blocks(take, place, origin, word)
    parts = len(beams.state)
    return Beams(beams.row[origin], found[:parts], beams.width), attention[place], found[parts:]


def _fill(rows: torch.Tensor, size: int) -> torch.Tensor:
    if len(rows) == size:
        return rows
    return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, size - len(rows)))


def _sum_log_probabilities(model: LanguageModel, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Sum of the log-probabilities that count, (B,); sequences with the same beginning are computed once."""
    total = model.embedding.weight.new_zeros(len(ids))
    node = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)  # where each sequence is
    h, c = model.begin(1)
    size = model.embedding.num_embeddings
    for t in range(ids.shape[1] - 1):
        on = counts[:, t].nonzero()[:, 0]
        if not len(on):
            break
        steps, place = torch.unique(node[on] * size + ids[on, t], return_inverse=True)
        origin = steps // size
        log_probs, h, c = in_blocks(model.step, steps % size, h[origin], c[origin])
        total[on] += log_probs[place, ids[on, t + 1]]
        node[on] = place
    return total


def _mean_by_row(attention: torch.Tensor, row: torch.Tensor, memory: Memory, width: int) -> torch.Tensor:
    """Contexts (U, F) of states, ascending by row, at most `width` per row; a row's features are read once for all."""
    rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)  # among its row's states
    weights = attention.new_zeros(len(memory.features), width, attention.shape[1])
    weights[row, rank] = attention
    return in_blocks(torch.bmm, weights, memory.features, size=ROWS)[row, rank]
