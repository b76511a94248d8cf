"""BERTScore of descriptions (Zhang et al. 2020): greedy matching of two texts' token embeddings.

Tokens, embeddings and matching are those of the bert-score package. Here: which model, from where,
and that a score depends on nothing else. The package pads a text with its batch mates and puts the
batches in an order that differs from run to run; here texts of equal length are embedded, and pairs of
equal lengths matched, without padding and in sorted order.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from nemesis.scoring.bleu import normalise
from nemesis.scoring.language_models import LoadedModel, load_model

TEXTS, PAIRS = 64, 1024  # embedded, matched at once
SPECIAL = 2  # tokens that the tokeniser puts around every text
COLUMNS = ["precision", "recall", "f1"]


@dataclass(frozen=True)
class Scorer:
    """A language model that says how alike two texts are, 1 for equal ones.

    `idf`: rare tokens weigh more. `baseline` (3,): precision, recall and f1 of unrelated texts, which
    rescaling maps to 0; None: not rescaled. `facts`: hash, model_sha256, versions, idf, rescaled, ...
    """

    loaded: LoadedModel
    idf: bool
    baseline: np.ndarray | None
    facts: dict

    def score(self, candidates: list[str], references: list, idf_from: list[str] | None = None) -> pd.DataFrame:
        """Columns precision, recall, f1, one row a candidate; a reference is a text or a list of texts.

        Of several references each column takes its own highest value, before rescaling. `idf_from`: the
        texts in which token frequencies are counted, the references when None (as published). A text
        whose tokens occur in all of those weighs them equally. An empty text scores 0.
        """
        if len(candidates) != len(references):
            raise ValueError(f"{len(candidates)} candidates, {len(references)} references")
        groups = [[text] if isinstance(text, str) else list(text) or [""] for text in references]
        groups = [[normalise(text) for text in group] for group in groups]
        if not groups:
            return pd.DataFrame(columns=COLUMNS, dtype=float)
        counts = np.array([len(group) for group in groups])
        left = np.repeat([normalise(text) for text in candidates], counts)
        right = np.array([text for group in groups for text in group])
        documents = right.tolist() if idf_from is None else [normalise(text) for text in idf_from]
        raw = self._compare(left, right, documents)  # (pairs, 3), NaN where a text is empty
        best = np.fmax.reduceat(raw, np.cumsum(counts) - counts, axis=0)
        return pd.DataFrame(np.nan_to_num(rescale(best, self.baseline), nan=0.0), columns=COLUMNS)

    def _compare(self, left: np.ndarray, right: np.ndarray, documents: list[str]) -> np.ndarray:
        texts, numbers = np.unique(np.concatenate([left, right]), return_inverse=True)
        tokens = {text: split_text(self.loaded.tokenizer, text) for text in {*texts.tolist(), *documents}}
        weights = self._weigh_tokens([tokens[text] for text in documents if tokens[text]])
        embedded = embed_texts(self.loaded, [tokens[text] for text in texts.tolist()], weights)
        pairs, rows = np.unique(numbers.reshape(2, -1), axis=1, return_inverse=True)
        return match_pairs(embedded, *pairs)[rows.ravel()]

    def _weigh_tokens(self, documents: list[list[int]]) -> Callable[[int], float]:
        """Weight of a token: log((n + 1) / (1 + how many of n documents have it)); without idf 1, special ones 0."""
        special = {self.loaded.tokenizer.cls_token_id, self.loaded.tokenizer.sep_token_id}
        if not self.idf or not documents:
            return lambda token: float(token not in special)
        counts = Counter(token for document in documents for token in set(document))
        return lambda token: math.log((len(documents) + 1) / (counts[token] + 1))


def open_scorer(spec: dict, device) -> Scorer:
    """The scorer of a config's `milan.scorer`.

    kind `minilm`: the embedded one, all six layers, not rescaled; `roberta-large`: bert-score's for
    English, rescaled, from the model hub or its cache; `folder`: any encoder built like BERT, as
    transformers saves it, `layers` of its layers (all), and with `baseline` (a table of bert-score's, by
    model name or path) rescaled. `idf` (true): see Scorer. Raises InputError when it cannot be had.
    """
    from bert_score.utils import get_hash

    loaded = load_model(spec, device)
    idf, rescaled = bool(spec.get("idf", True)), loaded.baseline is not None
    own_table = rescaled and loaded.own_baseline
    facts = {
        "kind": spec["kind"],
        "model": loaded.name,
        "layers": loaded.layers,
        "hash": get_hash(loaded.name, loaded.layers, idf, rescaled, own_table, True),
        "model_sha256": loaded.sha256,
        "versions": loaded.versions,
        "idf": idf,
        "rescaled": rescaled,
    }
    return Scorer(loaded, idf, loaded.baseline, facts)


def rescale(raw: np.ndarray, baseline) -> np.ndarray:
    """(x - b) / (1 - b) for columns precision, recall, f1; unchanged without a baseline."""
    return raw if baseline is None else (raw - baseline) / (1 - baseline)


@dataclass(frozen=True)
class EmbeddedTexts:
    """Texts by their number of tokens L: embeddings[L] (n, L, D) and weights[L] (n, L), text i in row place[i].

    length (T,), place (T,); a text without tokens has length 0 and no row.
    """

    length: np.ndarray
    place: np.ndarray
    embeddings: dict
    weights: dict


def split_text(tokenizer, text: str) -> list[int]:
    """Tokens of a text with the two special ones around it; none for a text that has no others."""
    from bert_score.utils import sent_encode

    tokens = sent_encode(tokenizer, text) if text else []
    return tokens if len(tokens) > SPECIAL else []


def embed_texts(loaded: LoadedModel, tokens: list[list[int]], weigh: Callable[[int], float]) -> EmbeddedTexts:
    """Embed texts, given as their tokens, those of equal length together."""
    from bert_score.utils import bert_encode

    length = np.array([len(text) for text in tokens])
    place, embeddings, weights = np.zeros(len(tokens), int), {}, {}
    for size in sorted(set(length[length > 0].tolist())):
        rows = np.flatnonzero(length == size)
        place[rows] = np.arange(len(rows))
        ids = torch.tensor([tokens[row] for row in rows])  # (n, L)
        parts = [block.to(loaded.device) for block in ids.split(TEXTS)]
        embeddings[size] = torch.cat([bert_encode(loaded.model, part, torch.ones_like(part)) for part in parts])
        weights[size] = _fill_zero_weights(torch.tensor([[weigh(token) for token in text] for text in ids.tolist()]))
    return EmbeddedTexts(length, place, embeddings, weights)


def _fill_zero_weights(weights: torch.Tensor) -> torch.Tensor:
    """Weights (n, L), equal ones for a text whose tokens all weigh nothing; their mean would be 0/0."""
    equal = torch.ones_like(weights)
    equal[:, [0, -1]] = 0
    return torch.where(weights.sum(dim=1, keepdim=True) > 0, weights, equal)


def match_pairs(texts: EmbeddedTexts, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Raw precision, recall and f1 (pairs, 3) of texts `left` against `right`; NaN where one has no tokens."""
    from bert_score.utils import greedy_cos_idf

    raw = np.full((len(left), len(COLUMNS)), np.nan)
    sizes = np.stack([texts.length[left], texts.length[right]], axis=1)
    for size in np.unique(sizes[(sizes > 0).all(axis=1)], axis=0):
        chosen = np.flatnonzero((sizes == size).all(axis=1))
        for first in range(0, len(chosen), PAIRS):
            rows = chosen[first : first + PAIRS]
            hypothesis = _take(texts, size[0], left[rows])
            reference = _take(texts, size[1], right[rows])
            raw[rows] = torch.stack(greedy_cos_idf(*reference, *hypothesis), dim=1).cpu().numpy()
    return raw


def _take(texts: EmbeddedTexts, size: int, numbers: np.ndarray):
    """Copies (the matching writes into them) of embeddings, masks and weights of texts of one length."""
    rows = torch.from_numpy(texts.place[numbers])
    embeddings, weights = texts.embeddings[int(size)], texts.weights[int(size)]
    embeddings = embeddings[rows.to(embeddings.device)]
    return embeddings, torch.ones(embeddings.shape[:2], device=embeddings.device), weights[rows.to(weights.device)]
