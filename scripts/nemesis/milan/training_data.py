"""What a captioner is trained on: described regions of a probe, or annotated units, as features with texts."""

import numpy as np

from nemesis.errors import InputError
from nemesis.milan.annotations import Annotations, read_annotations
from nemesis.milan.encoder import Encoder
from nemesis.milan.exemplars import LazyArray, resize_pictures
from nemesis.milan.region_units import draw_units
from nemesis.milan.regions import open_gallery, read_regions
from nemesis.milan.training import Lessons, split_units
from nemesis.probes.probe import open_probe, read_concepts
from nemesis.progress import Progress
from nemesis.stores import blocks

HELD_OUT = 0.05  # of annotated units, as published
ANNOTATED = 16  # annotated units encoded at once


def study_regions(
    probe_path, descriptions, concepts, encoder: Encoder, k: int, size: int, seed: int, counts
) -> Lessons:
    """Made-up units of k exemplars of size x size px from a probe whose regions are described.

    probe_path: probe.zarr; descriptions: descriptions.csv; concepts: concepts.csv. counts: units for
    training, validation and held out. Raises InputError when the files do not fit or the probe is too small.
    """
    probe = open_probe(probe_path)
    named = {row["number"]: (row["name"], row["category"]) for row in read_concepts(concepts)}
    gallery = open_gallery(probe, read_regions(descriptions, probe.names), named)
    units = draw_units(gallery, counts, k, size, seed)

    def load(numbers: np.ndarray) -> np.ndarray:
        return resize_pictures(probe.take_images(numbers), size)

    pictures = LazyArray((probe.count, 3, size, size), np.dtype(np.uint8), load)
    features = encoder.encode(pictures, units.picture, units.masks)  # (R, k, F)
    return Lessons(features, units.texts, units.concept, units.category, units.part)


def study_annotations(root, encoder: Encoder, seed: int, held_out=HELD_OUT, images=None, published=False) -> Lessons:
    """Annotated units in MILANNOTATIONS' layout, a share `held_out` of them held out; see read_annotations."""
    annotations = read_annotations(root, images=images, published=published)
    features = encode_annotations(annotations, encoder)
    units = annotations.units
    names = tuple(f"{unit.layer} {unit.unit}" for unit in units)
    part = split_units(len(units), held_out, seed)
    texts, layers = tuple(unit.texts for unit in units), tuple(unit.layer for unit in units)
    return Lessons(features, texts, names, layers, part)


def encode_annotations(annotations: Annotations, encoder: Encoder) -> np.ndarray:
    """Features float32 (R, k, F) of annotated units."""
    parts, progress = [], Progress("encode", len(annotations.units), "units")
    for first, last in blocks(len(annotations.units), ANNOTATED):
        pictures, masks = zip(*(annotations.read(index) for index in range(first, last)), strict=True)
        if len({values.shape for values in pictures}) > 1:
            raise InputError("milan: the annotated layers differ in exemplars or size; train on layers that agree")
        count, k = len(pictures), len(pictures[0])
        picture = np.arange(count * k).reshape(count, k)
        parts.append(encoder.encode(np.concatenate(pictures), picture, np.stack(masks)))
        progress.add(last - first)
    return np.concatenate(parts)
