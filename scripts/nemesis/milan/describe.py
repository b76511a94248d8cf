"""Describing units: the best captions that a decoder and a language model find for the features of their exemplars.

Strategies as in the published MILAN (Hernandez et al., ICLR 2022); `rerank` is the paper's. Many rows
and all their beams are computed together.

In the default mode a row's result does not depend on the rows beside it, and nothing counts after a
caption's first stop. `published=True` does as the published code: greedy, sampled and forced decoding
run on after the stop and count it all; the array of beams ends where the slowest row of the call ends;
and the language model counts the entry after the stop where the array has one.

Shapes: B rows, n exemplars, F features, P beams, T words, L live beams.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch

from nemesis.errors import InputError
from nemesis.milan.captioner import (
    Beams,
    Captioner,
    Decoder,
    Memory,
    WordModel,
    extend_beams,
    sequence_log_probability,
    start_beams,
)
from nemesis.milan.encoder import Encoder
from nemesis.milan.exemplars import Exemplars
from nemesis.milan.text import read_caption
from nemesis.progress import Progress
from nemesis.stores import blocks

STRATEGIES = ("greedy", "sample", "beam", "rerank")
BEAMS = 4096  # beams whose states are held at once
BATCH, PUBLISHED_BATCH = 64, 16


@dataclass(frozen=True)
class Decoded:
    """Captions of B rows.

    tokens (B, T): without start; stop fills them up. scores (B,): log p, or with mi log p(c|E) - t log p(c).
    beam and rerank: beam_tokens (B, P, T), beam_scores (B, P) descending, before re-ranking, beam_captions.
    greedy, sample, forced: predictions (B, T, size) and attentions (B, T, n), zero after the stop.
    """

    tokens: torch.Tensor
    scores: torch.Tensor
    captions: list[str]
    beam_tokens: torch.Tensor | None = None
    beam_scores: torch.Tensor | None = None
    beam_captions: list[list[str]] | None = None
    predictions: torch.Tensor | None = None
    attentions: torch.Tensor | None = None


@dataclass(frozen=True)
class Search:
    """How captions are searched; what is None comes from the captioner's settings.

    strategy: greedy | sample | beam | rerank, or word numbers (B, T) that are forced upon the decoder.
    beam: beams of a row. length: most words. temperature: weight of the language model's log p(w).
    mi: subtract temperature * log p(w) from every word's value; by default whenever there is a language
    model, except for rerank, which subtracts that of the whole caption at the end.
    published: as the published code, see the module's head.
    """

    strategy: str | torch.Tensor | None = None
    beam: int | None = None
    temperature: float | None = None
    mi: bool | None = None
    length: int | None = None
    published: bool = False


AS_SET = Search()  # by the captioner


@torch.inference_mode()
def decode(
    captioner: Captioner, features: torch.Tensor, search: Search = AS_SET, generator: torch.Generator | None = None
) -> Decoded:
    """Captions of rows of features (B, n, F).

    generator: draws the samples. Modules are run in evaluation mode.
    Raises InputError when the captioner cannot do what is asked or the features are not its encoder's.
    """
    asked = {name: getattr(search, name) for name in ("strategy", "beam", "temperature", "length")}
    chosen = captioner.settings | {name: value for name, value in asked.items() if value is not None}
    mi = _check(captioner, chosen, search.mi)
    language = captioner.language if mi else None
    model = WordModel(captioner.vocabulary, captioner.decoder, language, float(chosen["temperature"]))
    features = _check_features(features, model.decoder)
    with _evaluation(captioner):
        if chosen["strategy"] in ("beam", "rerank"):
            return _decode_beams(model, captioner.language, features, chosen, search.published)
        return _decode_words(model, features, chosen, search.published, generator)


def search_beams(model: WordModel, memory: Memory, beams: Beams, length: int):
    """The best captions that a beam search finds for a chunk of rows: tokens (B, P, T), scores (B, P).

    P is the beams' width. Every live beam proposes its best P words, a finished one proposes stop at no cost, and the
    best of all stay. No length normalisation; sorted by score, descending; stop fills the tokens up.
    """
    count, stop, device, beam = len(memory.features), model.vocabulary.stop, memory.features.device, beams.width
    tokens = torch.full((count, beam, length), stop, device=device)
    scores = torch.full((count, beam), -torch.inf, device=device)
    scores[:, 0] = 0  # at first a row has one beam, the start
    live = scores == 0
    word = torch.full_like(tokens[:, :, 0], model.vocabulary.start)
    origin = torch.arange(count, device=device)[:, None].expand(-1, beam)
    for t in range(length):
        on = live.flatten().nonzero()[:, 0]  # (L,)
        if not len(on):
            break
        chosen = origin.flatten()[on], word.flatten()[on]
        beams, _, (values, words) = extend_beams(model, memory, beams, *chosen, lambda values: values.topk(beam))
        gains = torch.full((count * beam, beam), -torch.inf, device=device)
        gains[:, 0] = 0
        proposed = torch.full((count * beam, beam), stop, device=device)
        gains[on], proposed[on] = values, words
        scores, best = (scores[..., None] + gains.view(count, beam, beam)).flatten(1).topk(beam)
        parent = best // beam  # (B, P)
        word = proposed.view(count, -1).gather(1, best)
        tokens = tokens.gather(1, parent[..., None].expand_as(tokens))
        tokens[:, :, t] = word
        live = word != stop
        place = torch.zeros(count * beam, dtype=torch.int64, device=device)
        place[on] = torch.arange(len(on), device=device)
        origin = place.view(count, beam).gather(1, parent)
    return tokens, scores


def choose_words(model: WordModel, memory: Memory, beams: Beams, choose: Callable, length: int, published: bool):
    """One caption a row of a chunk, word by word: tokens, scores, predictions, attentions as in Decoded.

    choose(values (L, size), rows (L,), t) gives the words (L,).
    """
    features, stop = memory.features, model.vocabulary.stop
    count, device = len(features), features.device
    tokens = torch.full((count, length), stop, device=device)
    scores = features.new_zeros(count)
    predictions = features.new_zeros(count, length, model.vocabulary.size)
    attentions = features.new_zeros(count, length, features.shape[1])
    rows = origin = torch.arange(count, device=device)
    word = torch.full_like(rows, model.vocabulary.start)
    for t in range(length):
        if not len(rows):
            break
        beams, attention, (values,) = extend_beams(model, memory, beams, origin, word, lambda values: (values,))
        word = choose(values, rows, t)
        tokens[rows, t], predictions[rows, t], attentions[rows, t] = word, values, attention
        scores[rows] += values.gather(1, word[:, None])[:, 0]
        origin = torch.arange(len(rows), device=device) if published else (word != stop).nonzero()[:, 0]
        rows, word = rows[origin], word[origin]
    return tokens, scores, predictions, attentions


def describe(
    exemplars: Exemplars,
    captioner: Captioner,
    encoder: Encoder,
    search: Search = AS_SET,
    batch: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per row of `exemplars`: unit, its columns, description, score.

    score: log p of the description, less the language model's part where the strategy has one (see Search).
    batch: rows decoded together; a description depends on it only with `search.published` (default: as
    published). seed: of the strategy `sample`. Moves the captioner to the encoder's device.
    Raises InputError when the features are not those that the captioner was trained with.
    """
    for module in (captioner.decoder, captioner.language):
        if module is not None:
            module.to(encoder.device)
    is_drawn = isinstance(search.strategy, str) and search.strategy == "sample"
    generator = torch.Generator().manual_seed(seed) if is_drawn else None
    table = pd.DataFrame({"unit": exemplars.unit, **exemplars.columns})
    features = encoder.encode(exemplars.pictures, exemplars.picture, exemplars.masks)  # (R, k, F)
    captions, scores, progress = [], [], Progress("describe", len(features), "units")
    for first, last in blocks(len(features), batch or (PUBLISHED_BATCH if search.published else BATCH)):
        found = decode(captioner, torch.from_numpy(features[first:last]).to(encoder.device), search, generator)
        captions += found.captions
        scores += found.scores.tolist()
        progress.add(last - first)
    return table.assign(description=pd.Series(captions, dtype=str), score=pd.Series(scores, dtype=float))


def _decode_beams(model: WordModel, language, features: torch.Tensor, chosen: dict, published: bool) -> Decoded:
    beam, vocabulary = int(chosen["beam"]), model.vocabulary
    starts = (start_beams(model, part, beam) for part in _chunks(features, beam))
    found = [search_beams(model, *start, int(chosen["length"])) for start in starts]
    tokens, scores = (torch.cat(parts) for parts in zip(*found, strict=True))  # (B, P, T), (B, P)
    if published:
        tokens = tokens[..., : _longest(tokens, vocabulary.stop)]
    best, total = torch.zeros_like(scores[:, 0], dtype=torch.int64), scores
    if chosen["strategy"] == "rerank":
        starts = tokens.new_full((*tokens.shape[:2], 1), vocabulary.start)
        ids = torch.cat([starts, tokens], dim=2).flatten(0, 1)  # (B * P, 1 + T)
        prior = sequence_log_probability(language, ids, vocabulary.stop, published).view(scores.shape)
        total = scores - chosen["temperature"] * prior
        best = total.argmax(dim=1)
    rows = torch.arange(len(tokens), device=tokens.device)
    captions = [[read_caption(vocabulary, ids) for ids in row] for row in tokens.tolist()]
    return Decoded(
        tokens=tokens[rows, best],
        scores=total[rows, best],
        captions=[row[place] for row, place in zip(captions, best.tolist(), strict=True)],
        beam_tokens=tokens,
        beam_scores=scores,
        beam_captions=captions,
    )


def _decode_words(model: WordModel, features: torch.Tensor, chosen: dict, published: bool, generator) -> Decoded:
    strategy, length, first, parts = chosen["strategy"], int(chosen["length"]), 0, []
    if isinstance(strategy, torch.Tensor):
        strategy, length = strategy.to(features.device), strategy.shape[1]
    for part in _chunks(features, 1):
        choose = _make_choice(strategy, slice(first, first + len(part)), model, length, published, generator)
        parts.append(choose_words(model, *start_beams(model, part, 1), choose, length, published))
        first += len(part)
    tokens, scores, predictions, attentions = (torch.cat(found) for found in zip(*parts, strict=True))
    captions = [read_caption(model.vocabulary, ids) for ids in tokens.tolist()]
    return Decoded(tokens, scores, captions, predictions=predictions, attentions=attentions)


def _make_choice(strategy, span: slice, model: WordModel, length: int, published: bool, generator) -> Callable:
    """How `choose_words` chooses those of the rows `span`."""
    if isinstance(strategy, torch.Tensor):
        return lambda values, rows, t: strategy[span][rows, t]
    if strategy == "greedy":
        return lambda values, rows, t: values.argmax(dim=1)
    device = generator.device if generator else "cpu"
    if published:
        draw = lambda odds: torch.multinomial(odds.to(device), 1, generator=generator).to(odds.device)  # noqa: E731
        return lambda values, rows, t: draw(values.softmax(dim=1))[:, 0]
    # The exponential race: the smallest of e / p wins with odds p. Drawn row by row, before anything is chosen.
    shape = (span.stop - span.start, length, model.vocabulary.size)
    noise = torch.empty(shape, device=device).exponential_(generator=generator).log_()
    return lambda values, rows, t: (values - noise[rows.to(device), t].to(values.device)).argmax(dim=1)


def _chunks(features: torch.Tensor, beam: int) -> tuple[torch.Tensor, ...]:
    """Features of so many rows at a time that their beams fit."""
    return features.split(max(1, BEAMS // beam))


def _longest(tokens: torch.Tensor, stop: int) -> int:
    """Width at which every beam of tokens (B, P, T) has ended, its stop included."""
    words = (tokens != stop).any(dim=0).any(dim=0).sum().item()
    return min(tokens.shape[-1], int(words) + 1)


def _check(captioner: Captioner, chosen: dict, mi: bool | None) -> bool:
    """Whether words are valued with mi; InputError for what this captioner cannot do."""
    strategy, size = chosen["strategy"], captioner.vocabulary.size
    forced = isinstance(strategy, torch.Tensor)
    if not forced and strategy not in STRATEGIES:
        raise InputError(f"strategy: '{strategy}' is not known; choose one of {', '.join(STRATEGIES)}")
    if forced and (strategy.ndim != 2 or (strategy.numel() and not 0 <= strategy.min() <= strategy.max() < size)):
        raise InputError(f"strategy: forced words must be (B, T) numbers from 0 to {size - 1}")
    rerank = not forced and strategy == "rerank"
    if rerank and mi:
        raise InputError("mi: rerank weighs whole captions; use mi with greedy, sample or beam")
    if captioner.language is None and (rerank or mi):
        what = "strategy: rerank" if rerank else "mi: true"
        raise InputError(f"{what} needs a language model, and the captioner has none; use strategy: beam")
    if not forced and strategy in ("beam", "rerank") and not 1 <= int(chosen["beam"]) <= size:
        raise InputError(f"beam: {chosen['beam']} is not between 1 and {size}, the entries of the vocabulary")
    return not rerank and captioner.language is not None if mi is None else mi


def _check_features(features: torch.Tensor, decoder: Decoder) -> torch.Tensor:
    """The features, float32, where the decoder is."""
    expected = decoder.sizes["features"]
    if features.ndim != 3 or features.shape[2] != expected or not features.shape[1]:
        raise InputError(
            f"features of shape {tuple(features.shape)} do not fit the captioner, which wants"
            f" (rows, exemplars, {expected}); they must come from the encoder that it was trained with"
        )
    return features.to(decoder.embedding.weight)


@contextlib.contextmanager
def _evaluation(captioner: Captioner):
    """Nothing drops out inside; the modules' modes are as before afterwards."""
    modules = [module for module in (captioner.decoder, captioner.language) if module is not None]
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
