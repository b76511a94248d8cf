"""Scorers of texts for tests: the embedded one, opened once; one by hand; and tiny models in folders."""

import functools
import json
from types import SimpleNamespace
from typing import ClassVar

import pandas as pd
import torch

from nemesis.scoring.bleu import normalise

CPU = torch.device("cpu")
WORDS = ["a", "red", "blue", "green", "wheel", "car", "sky", "of", "the", "on"]


@functools.cache
def open_minilm(idf: bool = True):
    from nemesis.scoring.bertscore import open_scorer

    return open_scorer({"kind": "minilm", "idf": idf}, CPU)


class WordScorer:
    """F1 = shared words over the mean number of words (of sets); of several references the best."""

    facts: ClassVar = {
        "kind": "words",
        "hash": "words",
        "model_sha256": "0",
        "versions": {},
        "idf": False,
        "rescaled": False,
    }

    def __init__(self):
        self.idf_from = []

    def score(self, candidates, references, idf_from=None) -> pd.DataFrame:
        self.idf_from.append(idf_from)
        rows = []
        for candidate, texts in zip(candidates, references, strict=True):
            found = [self.compare(candidate, text) for text in ([texts] if isinstance(texts, str) else texts)]
            rows.append([max(values) for values in zip(*found, strict=True)])
        return pd.DataFrame(rows, columns=["precision", "recall", "f1"], dtype=float)

    @staticmethod
    def compare(candidate: str, reference: str) -> tuple[float, float, float]:
        left, right = set(normalise(candidate).split()), set(normalise(reference).split())
        if not left or not right:
            return 0.0, 0.0, 0.0
        shared = len(left & right)
        return shared / len(left), shared / len(right), 2 * shared / (len(left) + len(right))


def write_bert(folder, layers: int = 3):
    """A tiny BERT with random weights, as transformers saves it."""
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "max_position_embeddings": 40}
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=len(vocabulary), num_hidden_layers=layers, **sizes))
    model.save_pretrained(folder)
    return SimpleNamespace(folder=folder, model=model.eval(), vocabulary=vocabulary)
