"""Epochs of optimiser steps, with early stopping, for whatever has samples and a loss."""

import copy
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

STREAM = 0x74726169


@dataclass(frozen=True)
class Recipe:
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


def draw_batches(lengths: torch.Tensor, recipe: Recipe) -> list[torch.Tensor]:
    """Every sample once, in batches; `lengths` (N,) are the samples' words. Draws from torch's generator."""
    order = torch.randperm(len(lengths))
    if recipe.window == 1:
        return list(order.split(recipe.batch))
    parts = order.split(recipe.batch * recipe.window)
    batches = [batch for part in parts for batch in part[lengths[part].argsort(stable=True)].split(recipe.batch)]
    return [batches[place] for place in torch.randperm(len(batches)).tolist()]


def fit(
    module: nn.Module,
    name: str,
    lengths: torch.Tensor,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    validate: Callable[[], float],
    stopper: Stopper,
    recipe: Recipe,
    seed: int,
    progress: Callable | None = None,
) -> None:
    """Epochs over N samples until the stopper says so or the recipe ends.

    lengths: (N,) words of each sample. loss_of: the loss of samples by number. validate: an epoch's value for
    the stopper, called in evaluation mode. progress: called after every epoch with (name, epoch, mean loss,
    that value). Order and dropout come from `seed` and `name`.
    """
    number = int(np.random.SeedSequence([seed, STREAM, zlib.crc32(name.encode())]).generate_state(1)[0])
    optimizer = torch.optim.AdamW(module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)  # order and dropout
        for epoch in range(1, recipe.epochs + 1):
            module.train()
            batches, total = draw_batches(lengths, recipe), 0.0
            for place, rows in enumerate(batches):
                _set_rate(optimizer, recipe, (epoch - 1 + place / len(batches)) / recipe.epochs)
                loss = loss_of(rows)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows) / len(lengths)
            module.eval()
            value = validate()
            if progress is not None:
                progress(name, epoch, total, value)
            if stopper.update(value):
                break


def _set_rate(optimizer, recipe: Recipe, done: float):
    """Learning rate when the share `done` of all epochs is over."""
    for group in optimizer.param_groups:
        factor = 0.5 * (1 + math.cos(math.pi * done)) if recipe.schedule == "cosine" else 1.0
        group["lr"] = recipe.learning_rate * factor
