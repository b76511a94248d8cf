"""Fitting language model and decoder: losses, one optimiser step, early stopping, the loops over epochs.

As the published MILAN trains them (Hernandez et al., ICLR 2022). Two things are right by default
and as published with `published=True`: the weights of the best epoch are kept (the published code ends
with those of the last one), and the regulariser counts a caption's own words (in the published code also
the padding after them, so that a caption's loss depends on the longest one of its batch).

Shapes: B captions, U units, n exemplars, F features, T words.
"""

import copy
import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nemesis.milan.captioner import Captioner, Decoder, LanguageModel
from nemesis.milan.describe import Search, decode
from nemesis.milan.text import Vocabulary, index_texts, tokenize

STREAM = 0x74726169
GREEDY = Search(strategy="greedy", mi=False)
Judge = Callable[[list[str], list[list[str]]], float]  # how good are candidates, given the references of each?


@dataclass(frozen=True)
class TrainingRecipe:
    """How a module is trained: AdamW, early stopping with `patience`. The values are the published ones.

    schedule: of the learning rate, `constant` or `cosine` (down to 0 over `epochs`). regulariser: weight of
    the attention's; only the decoder has one. window: so many batches at a time are made of captions of
    similar length, which saves most of the padding; 1 as published: lengths as they come. earliest: epochs
    before this one do not count as best; with a falling rate and few validation units an early one that
    seems best was lucky.
    """

    epochs: int = 100
    batch: int = 64
    patience: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "constant"
    regulariser: float = 1.0
    window: int = 1
    earliest: int = 1


DECODER_RECIPE = TrainingRecipe()
LANGUAGE_RECIPE = TrainingRecipe(batch=128)


@dataclass(frozen=True)
class TrainingRun:
    """What holds for a whole training, of the language model and of the decoder.

    seed: order and dropout come from it. published: the last epoch's weights stay, and the regulariser counts padding.
    progress: called after every epoch with (name of the module, epoch, mean loss, value on validation).
    device: where the modules are.
    """

    seed: int = 0
    published: bool = False
    progress: Callable | None = None
    device: str | torch.device = "cpu"


RUN = TrainingRun()


@dataclass(frozen=True)
class Objective:
    """What a module is trained for, over N samples.

    lengths: (N,) words of each. loss_of: the loss of samples by number. validate: an epoch's value on other units,
    called in evaluation mode; whether a higher one is better.
    """

    lengths: torch.Tensor
    loss_of: Callable[[torch.Tensor], torch.Tensor]
    validate: Callable[[], float]
    higher_is_better: bool


@dataclass(frozen=True)
class CaptionedUnits:
    """Features (U, n, F) of units, and the texts of each."""

    features: torch.Tensor
    texts: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Validation:
    """Units whose greedy captions `judge` compares with their texts after each epoch; a higher value is better."""

    units: CaptionedUnits
    judge: Judge


@dataclass(frozen=True)
class Captions:
    """Captions `targets` (B, T), words, stop and padding; caption b belongs to features[row[b]] (U, n, F)."""

    features: torch.Tensor
    row: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True)
class History:
    """What each epoch gave on the validation units (loss, or the judge's value), and the best epoch, from 1."""

    values: tuple[float, ...]
    best: int


class Stopper:
    """Early stopping: over when more than `patience` epochs in a row are no better than the best before them.

    earliest: the first epoch, from 1, that counts.
    """

    def __init__(self, module: nn.Module, patience: int, higher_is_better: bool, earliest: int = 1):
        self.module, self.patience, self.sign = module, patience, 1 if higher_is_better else -1
        self.earliest = earliest
        self.values: list[float] = []
        self.best, self.state = 0, None

    def update(self, value: float) -> bool:
        """Take in an epoch's value and, if it is the best so far, a copy of the weights; whether to stop."""
        self.values.append(value)
        if len(self.values) < self.earliest:
            return False
        if self.state is None or self.sign * value > self.sign * self.values[self.best - 1]:
            self.best, self.state = len(self.values), copy.deepcopy(self.module.state_dict())
        return len(self.values) - self.best > self.patience

    def finish(self, restore: bool) -> History:
        """Give the module the best epoch's weights, if `restore`; the last epoch is best where none counted."""
        self.best = self.best or len(self.values)
        if restore and self.state is not None:
            self.module.load_state_dict(self.state)
        return History(tuple(self.values), self.best)


def draw_batches(lengths: torch.Tensor, recipe: TrainingRecipe) -> list[torch.Tensor]:
    """Every sample once, in batches; `lengths` (N,) are the samples' words. Draws from torch's generator."""
    order = torch.randperm(len(lengths))
    if recipe.window == 1:
        return list(order.split(recipe.batch))
    parts = order.split(recipe.batch * recipe.window)
    batches = [batch for part in parts for batch in part[lengths[part].argsort(stable=True)].split(recipe.batch)]
    return [batches[place] for place in torch.randperm(len(batches)).tolist()]


def fit(module: nn.Module, name: str, objective: Objective, recipe: TrainingRecipe, run: TrainingRun = RUN) -> History:
    """Epochs of optimiser steps until the stopper says so or the recipe ends; order and dropout by seed and name."""
    number = int(np.random.SeedSequence([run.seed, STREAM, zlib.crc32(name.encode())]).generate_state(1)[0])
    optimizer = torch.optim.AdamW(module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    stopper = Stopper(module, recipe.patience, objective.higher_is_better, recipe.earliest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)  # order and dropout
        for epoch in range(1, recipe.epochs + 1):
            module.train()
            batches, total = draw_batches(objective.lengths, recipe), 0.0
            for place, rows in enumerate(batches):
                _set_rate(optimizer, recipe, (epoch - 1 + place / len(batches)) / recipe.epochs)
                loss = objective.loss_of(rows)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows) / len(objective.lengths)
            module.eval()
            value = objective.validate()
            if run.progress is not None:
                run.progress(name, epoch, total, value)
            if stopper.update(value):
                break
    return stopper.finish(restore=not run.published)


@dataclass(frozen=True)
class Loss:
    """total = nll (mean over words) + weight * regulariser; log-probabilities (B, T, size), attentions (B, T, n)."""

    total: torch.Tensor
    nll: torch.Tensor
    regulariser: torch.Tensor
    predictions: torch.Tensor
    attentions: torch.Tensor


def decoder_loss(
    decoder: Decoder, captions: Captions, vocabulary: Vocabulary, weight: float = 1.0, published: bool = False
) -> Loss:
    """Loss of captions; `weight` is the regulariser's. published: see the module's head."""
    targets = captions.targets
    starts = torch.full_like(targets[:, :1], vocabulary.start)
    inputs = torch.cat([starts, targets[:, :-1]], dim=1)
    predictions, attentions = decoder.force(captions.features, inputs, captions.row)
    nll = mean_nll(predictions, targets, vocabulary.pad)
    counted = attentions if published else attentions * (targets != vocabulary.pad)[..., None]
    regulariser = (1 - counted.sum(dim=1)).square().mean()  # of (B, n)
    return Loss(nll + weight * regulariser, nll, regulariser, predictions, attentions)


def language_loss(model: LanguageModel, inputs: torch.Tensor, targets: torch.Tensor, pad: int) -> torch.Tensor:
    """Mean -log p of the words `targets` (B, T) that follow `inputs` (B, T)."""
    return mean_nll(model(inputs)[0], targets, pad)


def mean_nll(log_probs: torch.Tensor, targets: torch.Tensor, pad: int) -> torch.Tensor:
    """Mean over the targets (B, T) that are not padding of -log p, from (B, T, size)."""
    return F.nll_loss(log_probs.flatten(0, 1), targets.flatten(), ignore_index=pad)


def train_language(
    model: LanguageModel,
    vocabulary: Vocabulary,
    texts: Sequence[str],
    validation: Sequence[str],
    recipe: TrainingRecipe = LANGUAGE_RECIPE,
    run: TrainingRun = RUN,
) -> History:
    """Train on `texts`; stop early on the loss of the texts `validation` (without any: never)."""
    device = model.embedding.weight.device
    inputs, targets = _index_language(vocabulary, texts)
    held = [ids.to(device) for ids in _index_language(vocabulary, validation)] if validation else None

    def loss_of(rows):
        known = (ids.to(device) for ids in _crop(vocabulary.pad, inputs[rows], targets[rows]))
        return language_loss(model, *known, vocabulary.pad)

    @torch.no_grad()
    def validate() -> float:
        return float(language_loss(model, *held, vocabulary.pad)) if held else -math.inf

    objective = Objective((targets != vocabulary.pad).sum(dim=1), loss_of, validate, higher_is_better=False)
    return fit(model, "language model", objective, recipe, run)


def train_decoder(
    decoder: Decoder,
    vocabulary: Vocabulary,
    units: CaptionedUnits,
    validation: Validation,
    recipe: TrainingRecipe = DECODER_RECIPE,
    run: TrainingRun = RUN,
) -> History:
    """Train on units, each of whose texts is a sample; stop early on captions of validation units.

    Their judge is BLEU as published, or measure_overlap.
    """
    features, texts = units.features, units.texts
    row = torch.tensor([unit for unit, found in enumerate(texts) for _ in found])
    targets = torch.tensor(index_texts(vocabulary, [text for found in texts for text in found], start=False))
    captioner = Captioner(vocabulary, decoder, None, {})

    def loss_of(rows):
        used, place = row[rows].unique(return_inverse=True)
        (cropped,) = _crop(vocabulary.pad, targets[rows])
        captions = Captions(features[used], place.to(features.device), cropped.to(features.device))
        return decoder_loss(decoder, captions, vocabulary, recipe.regulariser, run.published).total

    def validate() -> float:
        captions = decode(captioner, validation.units.features, GREEDY).captions
        return validation.judge(captions, [list(found) for found in validation.units.texts])

    objective = Objective((targets != vocabulary.pad).sum(dim=1), loss_of, validate, higher_is_better=True)
    return fit(decoder, "decoder", objective, recipe, run)


def measure_overlap(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean F1, in [0, 100], of a candidate's words with those of the reference that shares most.

    Unlike BLEU it means something for captions of two or three words, which have no four in a row.
    """
    found = [
        max(_share_words(tokenize(candidate), tokenize(text)) for text in texts)
        for candidate, texts in zip(candidates, references, strict=True)
    ]
    return 100 * sum(found) / len(found)


def _set_rate(optimizer, recipe: TrainingRecipe, done: float):
    """Learning rate when the share `done` of all epochs is over."""
    for group in optimizer.param_groups:
        factor = 0.5 * (1 + math.cos(math.pi * done)) if recipe.schedule == "cosine" else 1.0
        group["lr"] = recipe.learning_rate * factor


def _share_words(first: Sequence[str], second: Sequence[str]) -> float:
    common = (Counter(first) & Counter(second)).total()
    return 2 * common / (len(first) + len(second)) if common else 0.0


def _index_language(vocabulary: Vocabulary, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """start words pad..., and words stop pad..., each (B, T)."""
    return (
        torch.tensor(index_texts(vocabulary, texts, start=True, stop=False)),
        torch.tensor(index_texts(vocabulary, texts, start=False, stop=True)),
    )


def _crop(pad: int, *ids: torch.Tensor) -> list[torch.Tensor]:
    """Arrays (B, T) without the columns at the end that are nothing but padding in the last of them."""
    width = int((ids[-1] != pad).any(dim=0).sum())
    return [values[:, :width] for values in ids]
