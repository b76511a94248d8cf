"""What a captioner is trained on: described regions of a probe, or annotated units, as features with texts."""

from dataclasses import dataclass

import numpy as np

from nemesis.errors import InputError
from nemesis.milan.annotations import Annotations, read_annotations
from nemesis.milan.encoder import Encoder
from nemesis.milan.exemplars import LazyArray, resize_pictures
from nemesis.milan.region_units import RegionUnits
from nemesis.probes.probe import Probe
from nemesis.progress import Progress
from nemesis.stores import blocks

STREAM = 0x6C657373
TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held_out"
HELD_OUT_SHARE = 0.05  # of annotated units, as published
TOGETHER = 16  # annotated units encoded at once


@dataclass(frozen=True)
class TrainingData:
    """R described units: features float32 (R, k, F), texts of each, names for the tables, part (R,).

    part: `train`; `validation`, on which training stops; `held_out`, on which the captioner is judged.
    """

    features: np.ndarray
    texts: tuple[tuple[str, ...], ...]
    concept: tuple[str, ...]
    category: tuple[str, ...]
    part: np.ndarray

    def rows(self, part: str) -> np.ndarray:
        """Numbers of the units in a part."""
        return np.flatnonzero(self.part == part)

    def texts_of(self, rows) -> list[tuple[str, ...]]:
        """Texts of units by number."""
        return [self.texts[row] for row in rows]

    def check_parts(self) -> None:
        """InputError when there is nothing to learn from, to stop on or to judge by."""
        for part in (TRAIN, VALIDATION, HELD_OUT):
            if not len(self.rows(part)):
                raise InputError(
                    f"milan: of {len(self.part)} described units none is left for {part};"
                    " give more units, or hold out a larger share"
                )


def encode_regions(probe: Probe, units: RegionUnits, encoder: Encoder) -> TrainingData:
    """Made-up units (see region_units.draw_region_units), whose pictures are those of the probe."""
    size = units.masks.shape[-1]

    def load(numbers: np.ndarray) -> np.ndarray:
        return resize_pictures(probe.take_images(numbers), size)

    pictures = LazyArray((probe.count, 3, size, size), np.dtype(np.uint8), load)
    features = encoder.encode(pictures, units.picture, units.masks)  # (R, k, F)
    return TrainingData(features, units.texts, units.concept, units.category, units.part)


def encode_annotations(
    root, encoder: Encoder, seed: int, held_out: float = HELD_OUT_SHARE, images=None, published=False
) -> TrainingData:
    """Annotated units in MILANNOTATIONS' layout, a share `held_out` of them held out; see read_annotations."""
    annotations = read_annotations(root, images=images, published=published)
    features = _encode_units(annotations, encoder)
    units = annotations.units
    names = tuple(f"{unit.layer} {unit.unit}" for unit in units)
    part = split_units(len(units), held_out, seed)
    texts, layers = tuple(unit.texts for unit in units), tuple(unit.layer for unit in units)
    return TrainingData(features, texts, names, layers, part)


def split_units(count: int, fraction: float, seed: int) -> np.ndarray:
    """Part of each of `count` units, (count,): int(fraction * count) held out, as many for validation, drawn."""
    number = int(fraction * count)
    order = np.random.default_rng(np.random.SeedSequence([seed, STREAM])).permutation(count)
    part = np.full(count, TRAIN, dtype="<U10")
    part[order[:number]] = HELD_OUT
    part[order[number : 2 * number]] = VALIDATION
    return part


def _encode_units(annotations: Annotations, encoder: Encoder) -> np.ndarray:
    """Features float32 (R, k, F) of annotated units."""
    parts, progress = [], Progress("encode", len(annotations.units), "units")
    for first, last in blocks(len(annotations.units), TOGETHER):
        pictures, masks = zip(*(annotations.read(index) for index in range(first, last)), strict=True)
        if len({values.shape for values in pictures}) > 1:
            raise InputError("milan: the annotated layers differ in exemplars or size; train on layers that agree")
        count, k = len(pictures), len(pictures[0])
        picture = np.arange(count * k).reshape(count, k)
        parts.append(encoder.encode(np.concatenate(pictures), picture, np.stack(masks)))
        progress.add(last - first)
    return np.concatenate(parts)
