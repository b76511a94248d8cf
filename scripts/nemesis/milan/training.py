"""A captioner from described units: vocabulary, language model and decoder, and what it says of units it never saw."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from nemesis.errors import InputError
from nemesis.milan.captioner import Captioner, Decoder, LanguageModel
from nemesis.milan.describe import decode
from nemesis.milan.fitting import (
    DECODER_RECIPE,
    LANGUAGE_RECIPE,
    History,
    Judge,
    Recipe,
    measure_overlap,
    train_decoder,
    train_language,
)
from nemesis.milan.text import Vocabulary, build_vocabulary

STREAM = 0x6C657373
TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held_out"
BATCH = 64  # units described together


@dataclass(frozen=True)
class Lessons:
    """R described units: features float32 (R, k, F), texts of each, names for the tables, part (R,).

    part: `train`; `validation`, on which training stops; `held_out`, on which the captioner is judged.
    """

    features: np.ndarray
    texts: tuple[tuple[str, ...], ...]
    concept: tuple[str, ...]
    category: tuple[str, ...]
    part: np.ndarray

    def rows(self, part: str) -> np.ndarray:
        return np.flatnonzero(self.part == part)

    def texts_of(self, rows) -> list[tuple[str, ...]]:
        return [self.texts[row] for row in rows]


@dataclass(frozen=True)
class Course:
    """Sizes of decoder and language model, and how each is trained; the values are the published ones.

    standardise: the decoder learns from features of unit spread; the spread goes into its weights, so that
    it takes features as they are. judge: of the decoder's epochs, `bleu` or `overlap` (of words, for short
    captions).
    """

    embedding: int = 128
    hidden: int = 512
    attention: int | None = None
    dropout: float = 0.5
    decoder: Recipe = DECODER_RECIPE
    language_embedding: int = 128
    language_hidden: int = 512
    language_dropout: float = 0.5
    language: Recipe = LANGUAGE_RECIPE
    standardise: bool = False
    judge: str = "bleu"


PUBLISHED_COURSE = Course()
# Small enough for a minute on one core.
SHORT_COURSE = Course(
    embedding=64,
    hidden=128,
    attention=64,
    dropout=0.2,
    decoder=Recipe(
        epochs=16, patience=16, learning_rate=4e-3, schedule="cosine", regulariser=0.1, window=8, earliest=12
    ),
    language_embedding=32,
    language_hidden=64,
    language_dropout=0.2,
    language=Recipe(epochs=10, batch=128, patience=10, learning_rate=5e-3, schedule="cosine", window=8),
    standardise=True,
    judge="overlap",
)


@dataclass(frozen=True)
class Trained:
    """The captioner, held-out units with its descriptions beside theirs, and figures for the card."""

    captioner: Captioner
    held_out: pd.DataFrame
    facts: dict


def train_captioner(
    lessons: Lessons,
    encoder: dict,
    settings: dict,
    bleu: Judge,
    course: Course = PUBLISHED_COURSE,
    seed: int = 0,
    device="cpu",
    published: bool = False,
    progress: Callable | None = None,
) -> Trained:
    """Train on the units `train`, stop on `validation`, describe `held_out`.

    encoder, settings: of the Captioner. bleu: of candidates and references, in [0, 100]. progress: see
    train_decoder. Nothing is learnt from held-out units, their words included. published: as the published
    code: vocabulary from all units, training stops on the held-out ones, the language model is trained
    on all texts but those whose numbers are held-out units' numbers, and the last epoch's weights stay.
    Raises InputError when a part has no unit.
    """
    check_parts(lessons)
    train, held_out = lessons.rows(TRAIN), lessons.rows(HELD_OUT)
    validation = held_out if published else lessons.rows(VALIDATION)
    train = np.flatnonzero(lessons.part != HELD_OUT) if published else train
    vocabulary = build_vocabulary(lessons.texts if published else lessons.texts_of(train))
    decoder, language = build_modules(vocabulary, lessons.features.shape[-1], course, seed)
    decoder, language = decoder.to(device), language.to(device)
    known, unknown = split_texts(lessons, train, validation, held_out, published)
    languages = train_language(language, vocabulary, known, unknown, course.language, seed, published, progress)
    features = torch.from_numpy(lessons.features).to(device)
    spread = find_spread(features[train]) if course.standardise else None
    scaled = features if spread is None else features / spread
    decoders = train_decoder(
        decoder,
        vocabulary,
        scaled[train],
        lessons.texts_of(train),
        (scaled[validation], lessons.texts_of(validation)),
        bleu if course.judge == "bleu" else measure_overlap,
        course.decoder,
        seed,
        published,
        progress,
    )
    if spread is not None:
        fold_spread(decoder, spread)
    captioner = Captioner(vocabulary, decoder.eval(), language.eval(), encoder, settings)
    table = describe_rows(captioner, lessons, features, held_out, published)
    references = [list(texts) for texts in lessons.texts_of(held_out)]
    facts = {
        "units": {part: int((lessons.part == part).sum()) for part in (TRAIN, VALIDATION, HELD_OUT)},
        "seed": seed,
        "published": published,
        "course": asdict(course),
        "decoder": _summarise(decoders, course.judge),
        "language": _summarise(languages, "loss"),
        "held_out_bleu": bleu(table["description"].tolist(), references),
    }
    return Trained(captioner, table, facts)


def split_units(count: int, fraction: float, seed: int) -> np.ndarray:
    """Part of each of `count` units, (count,): int(fraction * count) held out, as many for validation, drawn."""
    number = int(fraction * count)
    order = np.random.default_rng(np.random.SeedSequence([seed, STREAM])).permutation(count)
    part = np.full(count, TRAIN, dtype="<U10")
    part[order[:number]] = HELD_OUT
    part[order[number : 2 * number]] = VALIDATION
    return part


def split_texts(lessons: Lessons, train, validation, held_out, published: bool) -> tuple[list[str], list[str]]:
    """Texts on which the language model is trained, and those on which it stops."""
    if not published:
        return tuple([text for texts in lessons.texts_of(rows) for text in texts] for rows in (train, validation))
    texts = [text for found in lessons.texts for text in found]
    numbers = set(held_out.tolist())  # of units, taken for numbers of texts
    return (
        [text for number, text in enumerate(texts) if number not in numbers],
        [text for number, text in enumerate(texts) if number in numbers],
    )


def build_modules(vocabulary: Vocabulary, features: int, course: Course, seed: int) -> tuple[Decoder, LanguageModel]:
    """Decoder and language model, freshly drawn with the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence([seed, STREAM]).generate_state(1)[0]))
        sizes = (course.embedding, course.hidden, course.attention, course.dropout)
        decoder = Decoder(features, vocabulary.size, *sizes)
        sizes = {"embedding": course.language_embedding, "hidden": course.language_hidden}
        language = LanguageModel(vocabulary.size, vocabulary.pad, **sizes, dropout=course.language_dropout)
    return decoder, language


def find_spread(features: torch.Tensor) -> torch.Tensor:
    """Standard deviation of each feature (F,) over (R, k, F); 1 for one that never changes."""
    spread = features.flatten(0, 1).std(dim=0, correction=0)
    return torch.where(spread > 1e-6, spread, torch.ones_like(spread))


@torch.no_grad()
def fold_spread(decoder: Decoder, spread: torch.Tensor) -> None:
    """Let a decoder that learnt from features / spread (F,) give the same for the features themselves."""
    for layer in (decoder.init_h[0], decoder.init_c[0], decoder.attend.key_to_hidden):
        layer.weight /= spread
    decoder.lstm.weight_ih[:, decoder.embedding.embedding_dim :] /= spread


def describe_rows(captioner: Captioner, lessons: Lessons, features: torch.Tensor, rows, published: bool):
    """Table unit, concept, category, description, reference_1 ... of some units; features (R, k, F)."""
    captions = [
        caption
        for part in torch.from_numpy(rows).split(BATCH)
        for caption in decode(captioner, features[part], published=published).captions
    ]
    named = {"concept": lessons.concept, "category": lessons.category}
    table = pd.DataFrame({"unit": rows} | {key: [names[row] for row in rows] for key, names in named.items()})
    table["description"] = captions
    texts = lessons.texts_of(rows)
    for number in range(max(map(len, texts))):
        table[f"reference_{number + 1}"] = [found[number] if number < len(found) else "" for found in texts]
    return table


def check_parts(lessons: Lessons) -> None:
    """InputError when there is nothing to learn from, to stop on or to judge by."""
    for part in (TRAIN, VALIDATION, HELD_OUT):
        if not len(lessons.rows(part)):
            raise InputError(
                f"milan: of {len(lessons.part)} described units none is left for {part};"
                " give more units, or hold out a larger share"
            )


def _summarise(history: History, measure: str) -> dict:
    return {"epochs": len(history.values), "best_epoch": history.best, measure: history.values[history.best - 1]}
