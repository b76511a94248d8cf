"""What is known about finished drawings.

Of each one: label planes, image-level labels, descriptions. Of all together: how often each concept occurs and how much
it covers; concept numbers follow frequency.
"""

from dataclasses import dataclass

import numpy as np

from nemesis.probes.minibroden.catalogue import CATEGORIES, Catalogue, name_colours
from nemesis.probes.minibroden.describe import describe_drawing
from nemesis.probes.minibroden.scenes import Drawing, draw_image, finish_picture

WITHOUT_MATERIAL = 0.2  # share of pictures nobody annotated with materials (as in Broden)
WITHOUT_SCENE = 0.1
SMALLEST_COLOUR = 0.015  # a colour is labelled from this share of the picture on


@dataclass(frozen=True)
class Plane:
    """One label plane of a category: concept codes uint16 and instance numbers uint8, (h, w)."""

    category: str
    codes: np.ndarray
    instances: np.ndarray


@dataclass(frozen=True)
class Annotation:
    """Everything that is known about picture `number`."""

    number: int
    planes: tuple
    scalars: tuple  # ((category, code), ...) labels of the whole picture
    descriptions: tuple  # describe.Description


def annotate_image(catalogue: Catalogue, size: int, seed: int, number: int):
    """Draw picture `number`: (RGB uint8 (size, size, 3), its Annotation)."""
    drawing = draw_image(catalogue, size, seed, number)
    picture = finish_picture(drawing.canvas)
    rng = drawing.canvas.rng
    keep_material, keep_scene = rng.random() >= WITHOUT_MATERIAL, rng.random() >= WITHOUT_SCENE
    planes = _region_planes(catalogue, drawing)
    planes.append(_colour_plane(catalogue, picture))
    if not keep_material:
        planes = [plane for plane in planes if plane.category != "material"]
    scalars = []
    if drawing.scene is not None and keep_scene:
        scalars.append(("scene", catalogue.code(drawing.scene)))
    if drawing.texture is not None:
        scalars.append(("texture", catalogue.code(drawing.texture)))
    descriptions = describe_drawing(catalogue, drawing, keep_scene, keep_material)
    return picture, Annotation(number, tuple(planes), tuple(scalars), tuple(descriptions))


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


def _region_planes(catalogue: Catalogue, drawing: Drawing) -> list:
    """The planes of object, part, material and texture that hold anything."""
    regions, where = drawing.canvas.regions, drawing.canvas.labels()
    instances = np.array([region.instance for region in regions], dtype=np.uint8)[where]
    columns = [
        ("object", [region.object for region in regions]),
        ("object", [region.nested for region in regions]),
        ("part", [region.part for region in regions]),
        ("part", [region.subpart for region in regions]),
        ("material", [region.look.material if region.look else None for region in regions]),
    ]
    if drawing.texture is None:  # a swatch's texture is a label of the whole picture
        columns.append(("texture", [region.look.texture if region.look else None for region in regions]))
    planes = []
    for category, names in columns:
        codes = np.array([catalogue.code(name) for name in names], dtype=np.uint16)[where]
        if codes.any():
            planes.append(Plane(category, codes, np.where(codes > 0, instances, 0).astype(np.uint8)))
    return planes


def _colour_plane(catalogue: Catalogue, picture: np.ndarray) -> Plane:
    """Basic colour of each label pixel: that of its 2 x 2 picture pixels' mean."""
    side = picture.shape[0] // 2
    mean = picture.reshape(side, 2, side, 2, 3).mean(axis=(1, 3)) / 255
    named = name_colours(catalogue.colours, mean)
    codes = np.array([catalogue.code(f"{name}-c") for name in catalogue.colours], dtype=np.uint16)
    share = np.bincount(named.ravel(), minlength=len(codes)) / named.size
    codes[share < SMALLEST_COLOUR] = 0
    return Plane("color", codes[named], np.zeros((side, side), dtype=np.uint8))


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
