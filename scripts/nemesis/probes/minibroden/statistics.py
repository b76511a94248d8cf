"""How often each concept occurs and how much it covers; concept numbers by frequency."""

from dataclasses import dataclass

import numpy as np

from nemesis.probes.minibroden.annotate import Annotation
from nemesis.probes.minibroden.catalogue import CATEGORIES, Catalogue


@dataclass(frozen=True)
class Counts:
    """By concept code (C + 1,): images that have it, and the sum over images of its area's share."""

    frequency: np.ndarray
    coverage: np.ndarray


@dataclass(frozen=True)
class Statistics:
    total: Counts
    by_category: dict  # category -> Counts
    numbers: np.ndarray  # concept code -> Broden number, 0 where it does not occur
    names: dict  # Broden number -> name, in order
    codes: dict  # name -> concept code


def count_concepts(catalogue: Catalogue, annotations: list[Annotation]) -> Statistics:
    """Count over all images; a pixel that carries a concept on two planes counts once."""
    length = len(catalogue.concepts) + 1
    total = _count(annotations, None, length)
    counts = {category: _count(annotations, category, length) for category in CATEGORIES}
    order = sorted(np.flatnonzero(total.frequency).tolist(), key=lambda code: (-total.frequency[code], code))
    numbers = np.zeros(length, dtype=np.uint16)
    numbers[order] = np.arange(1, len(order) + 1)
    names = {int(numbers[code]): catalogue.concepts[code - 1] for code in order}
    codes = {name: position + 1 for position, name in enumerate(catalogue.concepts)}
    return Statistics(total, counts, numbers, names, codes)


def _count(annotations: list[Annotation], category: str | None, length: int) -> Counts:
    frequency, coverage = np.zeros(length, dtype=int), np.zeros(length)
    for annotation in annotations:
        share = _shares(annotation, category, length)
        frequency += share > 0
        coverage += share
    return Counts(frequency, coverage)


def _shares(annotation: Annotation, category: str | None, length: int) -> np.ndarray:
    """Share of the picture that each concept covers, (C + 1,); category None: in any of them."""
    planes = [p.codes.ravel() for p in annotation.planes if category in (None, p.category)]
    scalars = [code for name, code in annotation.scalars if category in (None, name)]
    share = np.zeros(length)
    for i, plane in enumerate(planes):
        new = np.ones(plane.size, dtype=bool)
        for earlier in planes[:i]:
            new &= plane != earlier
        share += np.bincount(plane[new], minlength=length) / plane.size
    share[0] = 0
    share[scalars] = 1
    return share
