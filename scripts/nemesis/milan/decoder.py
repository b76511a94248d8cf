"""The decoder p(c | exemplars): writes a caption word by word, looking at the exemplars in between.

As the published MILAN has it (Hernandez et al., ICLR 2022). Its parameters carry the published names.
Shapes: B rows, n exemplars, F features, H hidden, A attention, T words.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from nemesis.milan.language import LanguageModel, update_cell
from nemesis.milan.text import Vocabulary

SETTINGS = {"length": 15, "strategy": "rerank", "beam": 50, "temperature": 0.2}


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

    def step(self, token: torch.Tensor, state: State, features: torch.Tensor):
        """Log-probabilities (B, size) of the word after `token` (B,), attention (B, n), and the new state."""
        attention = self.attend(state.h, state.keys)  # (B, n)
        gates = self.read(state.h, look(attention, features))  # (B, 4H)
        h, c = update_cell(gates + self.hear(token), state.c)
        return self.output(h), attention, State(h, c, state.keys)

    def force(self, features: torch.Tensor, inputs: torch.Tensor, row: torch.Tensor | None = None):
        """Log-probabilities (B, T, size) and attentions (B, T, n) when the words `inputs` (B, T) are given.

        features: (B, n, F); with `row` (B,) they are (U, n, F), and caption b belongs to features[row[b]].
        """
        state = self.begin(features)
        if row is not None:
            features, state = features[row], State(state.h[row], state.c[row], state.keys[row])
        h, c, keys = state.h, state.c, state.keys
        heard = self.hear(inputs)  # (B, T, 4H)
        hidden, attentions = [], []
        for t in range(inputs.shape[1]):
            attentions.append(self.attend(h, keys))
            gates = self.read(h, look(attentions[-1], features))
            h, c = update_cell(gates + heard[:, t], c)
            hidden.append(h)
        return self.output(torch.stack(hidden, dim=1)), torch.stack(attentions, dim=1)

    def read(self, h: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """What the state h (B, H) and the exemplars looked at, context (B, F), add to the LSTM's gates (B, 4H)."""
        seen = self.feature_gate(h) * context  # (B, F)
        weight = self.lstm.weight_ih[:, self.embedding.embedding_dim :]  # (4H, F)
        return F.linear(seen, weight) + F.linear(h, self.lstm.weight_hh, self.lstm.bias_hh)

    def hear(self, token: torch.Tensor) -> torch.Tensor:
        """What words (...) add to the LSTM's gates (..., 4H)."""
        weight = self.lstm.weight_ih[:, : self.embedding.embedding_dim]  # (4H, E)
        return F.linear(self.embedding(token), weight, self.lstm.bias_ih)


def look(attention: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The exemplars' features (B, n, F) averaged with the weights `attention` (B, n): the context (B, F)."""
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
