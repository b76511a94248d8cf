"""The language model p(c): how likely is a caption, whatever the images show?

As the published MILAN has it (Hernandez et al., ICLR 2022): embedding, a two-layer LSTM, one linear
layer. Its parameters carry the published names.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nemesis.milan.blocks import in_blocks

SEQUENCES = 4096  # sequences whose states are held at once


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
    return torch.cat([_walk(model, *part) for part in parts])


def _walk(model: LanguageModel, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Sum of the log-probabilities that count, (B,); sequences with the same beginning walk together."""
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
