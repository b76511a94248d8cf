"""BLEU of descriptions against several references, as the published code reports it."""

import string

from nemesis.errors import InputError

ENDS = string.whitespace + "."


def normalise(text: str) -> str:
    """Lower case, without dots and spaces at either end: what every text score compares.

    Source: evaluation of the published MILAN (Hernandez et al., ICLR 2022).
    """
    return text.strip(ENDS).lower()


def corpus_bleu(candidates: list[str], references: list[list[str]]) -> float:
    """BLEU in [0, 100] of one candidate a unit against the references of each unit.

    sacrebleu's defaults (13a tokens, exponential smoothing) on normalised texts; every unit counts as
    many references as the unit that has fewest. Raises InputError where there is nothing to compare.
    """
    from sacrebleu.metrics import BLEU

    if not candidates:
        raise InputError("BLEU: there is no description to score; expected at least one")
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates, {len(references)} lists of references")
    for row, texts in enumerate(references):
        if not texts:
            raise InputError(f"BLEU: description {row} ('{candidates[row]}') has no reference; expected at least one")
    streams = [[normalise(text) for text in texts] for texts in zip(*references, strict=False)]
    return float(BLEU().corpus_score([normalise(text) for text in candidates], streams).score)
