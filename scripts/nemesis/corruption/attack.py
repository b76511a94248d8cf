"""Designed corruption of images: PGD and FGSM on a unit's objective, many units in a batch.

They are subclasses of torchattacks' `Attack`, whose own PGD has a fixed cross-entropy loss (Srivastava et al., ICCV
2023, section 3.2). The steps are those of perturb.pgd.
"""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torchattacks.attack import Attack

from nemesis.corruption.objective import costs_batches, load_window, make_objective
from nemesis.corruption.plan import Plan, Subject
from nemesis.perturb.pgd import find_gradient, pgd, round_rows
from nemesis.perturb.poison import write_poison
from nemesis.progress import Progress
from nemesis.stores import Origin
from nemesis.threads import load_ahead

WINDOW_BYTES = 2**24  # of 8-bit images loaded at once


class UnitPGD(Attack):
    """Projected gradient descent from the clean images, alpha = 2 eps / steps, the last iterate.

    reader: a LayerReader inside its `with` block. layer: the name it was made with. Call it with
    images float32 (B, 3, H, W) in [0, 1], an objective (maps (B, U, h, w) -> costs (B,) or (1,)) and eps (B,)
    in the same range. Each image moves by its own gradient; the cost is summed over the batch.
    `costs` holds the costs before each step of the last call.
    """

    def __init__(self, reader, layer: str, steps: int = 10):
        super().__init__(type(self).__name__, reader.network.module)
        self.device = reader.device
        self.reader, self.layer, self.steps = reader, layer, steps
        self.costs: list = []

    @property
    def step_size(self) -> float:
        """alpha as a share of eps."""
        return 2 / self.steps

    def forward(self, images, labels, eps):
        """Adversarial images (B, 3, H, W), detached; `labels` is the objective."""
        self.costs = []
        gradient = lambda moved: self.find_gradient(moved, labels)  # noqa: E731
        return pgd(images.to(self.device), gradient, eps, self.steps, self.step_size)

    def find_gradient(self, images, objective):
        """Gradient (B, 3, H, W) of the summed cost at `images`; the costs are noted."""
        gradient, costs = find_gradient(lambda moved: objective(self.reader.read(moved)[self.layer]), images)
        self.costs.append(costs)
        return gradient


class UnitFGSM(UnitPGD):
    """One step of the whole eps."""

    def __init__(self, reader, layer: str, steps: int = 1):
        super().__init__(reader, layer, steps=1)

    @property
    def step_size(self) -> float:
        return 1.0


METHODS = {"pgd": UnitPGD, "fgsm": UnitFGSM}


@dataclass(frozen=True)
class Record:
    """What is stored with an attack: what it was made from, the seed of its draws, and whether residues are kept."""

    origin: Origin
    seed: int
    residue: bool = False


def poison_layer(stores: dict, attack, plan: Plan, subject: Subject, batch: int, record: Record):
    """Write a poison.zarr of a layer for every eps (in 1/255) of `stores` {eps: path}.

    `attack` is a UnitPGD or UnitFGSM, `batch` the rows that it attacks at once.
    """
    attrs = {"method": type(attack).__name__, "masks": subject.masks, "objective": subject.objective}
    attrs |= {"steps": attack.steps, "seed": record.seed, "layer": attack.layer}
    for eps, path in stores.items():
        with attack.reader:
            attacked = attack_rows(attack, plan, subject, np.full(len(plan), eps), batch)
            differences = round_rows(attacked, eps, record.residue)
            alpha = eps * attack.step_size
            write_poison(path, plan, differences, subject.probe.size, record.origin, **attrs, alpha=alpha)
        logging.info("eps %g: %d images of %d units", eps, len(plan), len(plan.tasks))


def attack_rows(
    attack, plan: Plan, subject: Subject, eps: np.ndarray, batch: int
) -> Iterator[tuple[slice, np.ndarray, torch.Tensor]]:
    """Yield (rows, clean uint8 (R', 3, H, W), attacked float32 in [0, 1] on the device) until all rows are done.

    `attack` is a UnitPGD or UnitFGSM inside its reader's `with` block; `eps` (R,) is in 1/255.
    """
    if not len(plan):
        return
    progress = Progress("attack", len(plan))
    spans = plan_windows(plan, subject, batch)
    loaded = load_ahead(lambda span: load_window(plan, subject, span[0]), spans)
    for (rows, batches), window in zip(spans, loaded, strict=True):
        parts = []
        for first, last in batches:
            inside = slice(first - rows.start, last - rows.start)
            images = torch.from_numpy(window.images[inside]).to(attack.device).float() / 255
            radius = torch.from_numpy(eps[first:last].astype(np.float32) / np.float32(255))
            objective = make_objective(window, inside, subject, attack.device)
            parts.append(attack(images, objective, radius))
            progress.add(last - first)
        yield rows, window.images, torch.cat(parts)


def plan_windows(plan: Plan, subject: Subject, batch: int) -> list[tuple[slice, list[tuple[int, int]]]]:
    """Consecutive rows that are loaded together, and their batches: full ones, or the published groups."""
    if costs_batches(plan, subject):
        edges = [0, *(np.flatnonzero(np.diff(plan.group)) + 1), len(plan)]
    else:
        edges = [*range(0, len(plan), batch), len(plan)]
    batches = list(itertools.pairwise(edges))
    per_window = max(1, WINDOW_BYTES // (3 * int(np.prod(subject.probe.size))) // batch)
    groups = [batches[start : start + per_window] for start in range(0, len(batches), per_window)]
    return [(slice(int(group[0][0]), int(group[-1][1])), group) for group in groups]
