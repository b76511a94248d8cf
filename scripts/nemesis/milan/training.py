"""A captioner from described units: vocabulary, language model and decoder, and what it says of units it never saw."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from nemesis.milan.captioner import Captioner, Decoder, LanguageModel
from nemesis.milan.describe import Search, decode
from nemesis.milan.fitting import (
    DECODER_RECIPE,
    LANGUAGE_RECIPE,
    RUN,
    CaptionedUnits,
    History,
    Judge,
    TrainingRecipe,
    TrainingRun,
    Validation,
    measure_overlap,
    train_decoder,
    train_language,
)
from nemesis.milan.text import Vocabulary, build_vocabulary
from nemesis.milan.training_data import HELD_OUT, STREAM, TRAIN, VALIDATION, TrainingData

BATCH = 64  # units described together


@dataclass(frozen=True)
class TrainingSchedule:
    """Sizes of decoder and language model, and how each is trained; the values are the published ones.

    standardise: the decoder learns from features of unit spread; the spread goes into its weights, so that
    it takes features as they are. judge: of the decoder's epochs, `bleu` or `overlap` (of words, for short
    captions).
    """

    embedding: int = 128
    hidden: int = 512
    attention: int | None = None
    dropout: float = 0.5
    decoder: TrainingRecipe = DECODER_RECIPE
    language_embedding: int = 128
    language_hidden: int = 512
    language_dropout: float = 0.5
    language: TrainingRecipe = LANGUAGE_RECIPE
    standardise: bool = False
    judge: str = "bleu"


PUBLISHED_SCHEDULE = TrainingSchedule()
# Small enough for a minute on one core.
SHORT_SCHEDULE = TrainingSchedule(
    embedding=64,
    hidden=128,
    attention=64,
    dropout=0.2,
    decoder=TrainingRecipe(
        epochs=16, patience=16, learning_rate=4e-3, schedule="cosine", regulariser=0.1, window=8, earliest=12
    ),
    language_embedding=32,
    language_hidden=64,
    language_dropout=0.2,
    language=TrainingRecipe(epochs=10, batch=128, patience=10, learning_rate=5e-3, schedule="cosine", window=8),
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
    data: TrainingData,
    encoder: dict,
    settings: dict,
    bleu: Judge,
    schedule: TrainingSchedule = PUBLISHED_SCHEDULE,
    run: TrainingRun = RUN,
) -> Trained:
    """Train on the units `train`, stop on `validation`, describe `held_out`.

    encoder, settings: of the Captioner. bleu: of candidates and references, in [0, 100]. Nothing is learnt from
    held-out units, their words included. run.published: as the published code: vocabulary from all units, training
    stops on the held-out ones, the language model is trained on all texts but those whose numbers are held-out
    units' numbers, and the last epoch's weights stay.
    Raises InputError when a part has no unit.
    """
    data.check_parts()
    train, held_out = data.rows(TRAIN), data.rows(HELD_OUT)
    validation = held_out if run.published else data.rows(VALIDATION)
    train = np.flatnonzero(data.part != HELD_OUT) if run.published else train
    vocabulary = build_vocabulary(data.texts if run.published else data.texts_of(train))
    decoder, language = build_modules(vocabulary, data.features.shape[-1], schedule, run.seed)
    decoder, language = decoder.to(run.device), language.to(run.device)
    known, unknown = split_texts(data, train, validation, held_out, run.published)
    languages = train_language(language, vocabulary, known, unknown, schedule.language, run)
    features = torch.from_numpy(data.features).to(run.device)
    spread = find_spread(features[train]) if schedule.standardise else None
    scaled = features if spread is None else features / spread
    units, others = (CaptionedUnits(scaled[rows], data.texts_of(rows)) for rows in (train, validation))
    judged = Validation(others, bleu if schedule.judge == "bleu" else measure_overlap)
    decoders = train_decoder(decoder, vocabulary, units, judged, schedule.decoder, run)
    if spread is not None:
        fold_spread(decoder, spread)
    captioner = Captioner(vocabulary, decoder.eval(), language.eval(), encoder, settings)
    table = describe_rows(captioner, data, features, held_out, run.published)
    facts = {
        "units": {part: int((data.part == part).sum()) for part in (TRAIN, VALIDATION, HELD_OUT)},
        "seed": run.seed,
        "published": run.published,
        "course": asdict(schedule),
        "decoder": _summarise(decoders, schedule.judge),
        "language": _summarise(languages, "loss"),
        "held_out_bleu": bleu(table["description"].tolist(), [list(texts) for texts in data.texts_of(held_out)]),
    }
    return Trained(captioner, table, facts)


def split_texts(data: TrainingData, train, validation, held_out, published: bool) -> tuple[list[str], list[str]]:
    """Texts on which the language model is trained, and those on which it stops."""
    if not published:
        return tuple([text for texts in data.texts_of(rows) for text in texts] for rows in (train, validation))
    texts = [text for found in data.texts for text in found]
    numbers = set(held_out.tolist())  # of units, taken for numbers of texts
    return (
        [text for number, text in enumerate(texts) if number not in numbers],
        [text for number, text in enumerate(texts) if number in numbers],
    )


def build_modules(
    vocabulary: Vocabulary, features: int, schedule: TrainingSchedule, seed: int
) -> tuple[Decoder, LanguageModel]:
    """Decoder and language model, freshly drawn with the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence([seed, STREAM]).generate_state(1)[0]))
        sizes = (schedule.embedding, schedule.hidden, schedule.attention, schedule.dropout)
        decoder = Decoder(features, vocabulary.size, *sizes)
        sizes = {"embedding": schedule.language_embedding, "hidden": schedule.language_hidden}
        language = LanguageModel(vocabulary.size, vocabulary.pad, **sizes, dropout=schedule.language_dropout)
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


def describe_rows(captioner: Captioner, data: TrainingData, features: torch.Tensor, rows, published: bool):
    """Table unit, concept, category, description, reference_1 ... of some units; features (R, k, F)."""
    captions = [
        caption
        for part in torch.from_numpy(rows).split(BATCH)
        for caption in decode(captioner, features[part], Search(published=published)).captions
    ]
    named = {"concept": data.concept, "category": data.category}
    table = pd.DataFrame({"unit": rows} | {key: [names[row] for row in rows] for key, names in named.items()})
    table["description"] = captions
    texts = data.texts_of(rows)
    for number in range(max(map(len, texts))):
        table[f"reference_{number + 1}"] = [found[number] if number < len(found) else "" for found in texts]
    return table


def _summarise(history: History, measure: str) -> dict:
    return {"epochs": len(history.values), "best_epoch": history.best, measure: history.values[history.best - 1]}
