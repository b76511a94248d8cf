"""Count where a unit's mask meets each concept, and turn the counts into IoU (Eq. 2 to 4).

Only (unit, image) pairs whose map exceeds the unit's threshold anywhere can have a mask; about
nine in ten do not. Of those that can, the few pixels above the threshold are gathered, and a
bincount gives the pixels of every (pair, region of the label map); the regions' labels turn them into
pixels of concepts. No array of units x concepts x pixels exists at any time.

Versions of a probe (bootstrap replicates, shares of corrupted images) differ in thresholds and in how
often an image counts. They are counted together: each pixel once, by how many thresholds it exceeds.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from nemesis.devices import scale_bytes
from nemesis.dissection.masks import mask_pixels
from nemesis.probes.probe import Regions

COUNT_BYTES = 2**22  # counts of (pair, version, region) held at once on a processor


@dataclass(frozen=True)
class ImageLabels:
    """Labels of one image, on the device.

    concepts: (C',) int64, numbers of those that occur. matrix: (R, C') float, how often (on how many planes, or for
    the whole image) a pixel of a region carries each. areas: (C',) int64, pixels of each, counted once a plane.
    """

    concepts: torch.Tensor
    matrix: torch.Tensor
    areas: torch.Tensor


@dataclass(frozen=True)
class LabelBlock:
    """Labels of B images, on the device: everything the tally needs, for any number of units."""

    ids: torch.Tensor  # (B * Hs * Ws,) int32, the region of each pixel
    size: tuple[int, int]  # (Hs, Ws)
    regions: torch.Tensor  # (B,) int64, how many an image has
    images: list[ImageLabels]

    def area_of(self, numbers) -> np.ndarray:
        """Pixels of each of T concepts in each image, int64 (B, T); 0 for the number 0."""
        numbers, found = np.asarray(numbers), np.zeros((len(self.images), len(numbers)), np.int64)
        for row, image in zip(found, self.images, strict=True):
            area = dict(zip(image.concepts.tolist(), image.areas.tolist(), strict=True))
            row[:] = [area.get(number, 0) for number in numbers.tolist()]
        return found


@dataclass(frozen=True)
class Tally:
    """Pixel counts over the images seen so far, on the device; those of several versions have a first axis V.

    A pixel that carries a concept on two planes counts twice, as in the published code.
    """

    intersection: torch.Tensor  # (U, L) pixels of unit mask and concept
    unit_area: torch.Tensor  # (U, C) pixels of the mask, in images where it meets the category
    unit_total: torch.Tensor  # (U,) pixels of the mask in all images
    concept_area: torch.Tensor  # (L,) pixels of the concept

    def version(self, number: int) -> "Tally":
        """The tally of one version."""
        return Tally(*(part[number] for part in vars(self).values()))


def empty_tally(versions: int, units: int, category_of: torch.Tensor, categories: int) -> Tally:
    """A tally of nothing for V versions; `category_of` (L,) gives each concept's primary category."""
    shapes = (units, len(category_of)), (units, categories), (units,), (len(category_of),)
    return Tally(*(torch.zeros((versions, *shape), dtype=torch.int64, device=category_of.device) for shape in shapes))


def label_block(regions: Regions, scalars: np.ndarray, device, once: bool = False) -> LabelBlock:
    """Lay out the regions of B images and their image-level labels (B, S) for `tally_images`.

    `once`: a concept counts once a pixel, on however many planes and in the image-level labels it is.
    """
    ids = torch.from_numpy(regions.ids.astype(np.int32)).to(device).view(len(scalars), -1)  # (B, Hs * Ws)
    parts = list(zip(regions.labels, scalars, strict=True))
    numbers = [np.setdiff1d(np.union1d(labels, whole), 0) for labels, whole in parts]
    tables = [_count_labels(*part, of) for part, of in zip(parts, numbers, strict=True)]  # (R, C') each
    if once:
        tables = [np.minimum(table, 1) for table in tables]
    flat = torch.from_numpy(np.concatenate([table.ravel() for table in tables])).to(device)
    matrices = flat.split([table.size for table in tables])
    concepts = torch.from_numpy(np.concatenate(numbers).astype(np.int64)).to(device).split([len(n) for n in numbers])
    images = []
    for pixels, table, values, of in zip(ids, tables, matrices, concepts, strict=True):
        matrix = values.view(table.shape)
        areas = torch.bincount(pixels, minlength=len(matrix)).double() @ matrix
        images.append(ImageLabels(of, matrix, areas.long()))
    counts = torch.tensor([len(labels) for labels in regions.labels], device=device)
    return LabelBlock(ids.flatten(), regions.size, counts, images)


def _count_labels(labels: np.ndarray, whole: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """How often each concept is among the labels (R, K) of a region and those of the whole image, float64 (R, C')."""
    places = np.searchsorted(numbers, labels)
    table = np.zeros((len(labels), len(numbers) + 1))
    np.add.at(table, (np.arange(len(labels))[:, None], np.where(labels > 0, places, -1)), 1)
    for number in whole[whole > 0]:
        table[:, np.searchsorted(numbers, number)] += 1
    return np.ascontiguousarray(table[:, :-1])


@dataclass(frozen=True)
class Weighted:
    """V versions of a probe: `thresholds` float32 (V, U), how often each counts a map, int64 (V, B) or (V, U, B)."""

    thresholds: torch.Tensor
    weights: torch.Tensor


def tally_images(tally: Tally, maps: torch.Tensor, place, versions: Weighted, labels: LabelBlock, category_of):
    """Add the maps of some images of a block of labels to a tally of V versions, in place; concepts' areas apart.

    `maps` is (U, B, h, w), float16 or float32; a mask is the map, upsampled bilinearly (align_corners=False) to the
    label size, strictly above the threshold. `place` (B,) are the images' places in the block, ascending; a weight of
    0 leaves one out.
    """
    thresholds, weights = versions.thresholds, versions.weights
    if weights.ndim == 2:
        weights = weights[:, None].expand(-1, len(maps), -1)
    highest = maps.amax(dim=(2, 3)).float()  # (U, B)
    lowest = torch.where(weights > 0, thresholds[:, :, None], torch.inf).amin(0)  # (U, B)
    found, unit = (highest > lowest).T.nonzero(as_tuple=True)  # (P,) each, image by image
    pairs = Pairs(unit, place[found], thresholds[:, unit].T, weights[:, unit, found].T, lowest[unit, found])
    tally_pairs(tally, lambda part: maps[unit[part], found[part]], pairs, labels, category_of)


@dataclass(frozen=True)
class Pairs:
    """P maps to count: of which unit (P,), on which image of a block of labels (P,) (ascending), above which
    thresholds of V versions (P, V), how often in each (P, V); `lowest` (P,) of the thresholds where that is not 0.
    """

    unit: torch.Tensor
    image: torch.Tensor
    thresholds: torch.Tensor
    weights: torch.Tensor
    lowest: torch.Tensor


def tally_pairs(tally: Tally, load, pairs: Pairs, labels: LabelBlock, category_of: torch.Tensor):
    """Add P maps to a tally of V versions, in place; `load` gives those of some of them, (P', h, w)."""
    (versions, units, length), categories = tally.intersection.shape, tally.unit_area.shape[2]
    belongs = F.one_hot(category_of, categories).double()  # (L, C)
    totals, areas = tally.unit_total.view(-1), tally.unit_area.view(-1, categories)
    both = tally.intersection.view(-1)
    for part in split_pairs(versions * labels.regions[pairs.image]):
        limits, version = pairs.thresholds[part].sort(dim=1)  # (P', V)
        weights = pairs.weights[part].gather(1, version).double()
        rows = version * units + pairs.unit[part, None]  # (P', V)
        found = []
        masks = count_masks(load(part).float(), limits, pairs.lowest[part], labels, pairs.image[part])
        for number, span, counts, area in masks:  # (P'', V, C'), (P'', V)
            image, weight, row = labels.images[number], weights[span], rows[span]
            touched = (counts @ belongs[image.concepts] > 0) * (area * weight)[:, :, None]  # (P'', V, C)
            cells = row[:, :, None] * length + image.concepts
            found.append((row, area * weight, touched, cells, counts * weight[:, :, None]))
        joined = [torch.cat([piece.flatten() for piece in pieces]) for pieces in zip(*found, strict=True)]
        row, area, touched, cells, counts = joined
        totals.index_add_(0, row, area.long())
        areas.index_add_(0, row, touched.view(-1, categories).long())
        both.index_add_(0, cells, counts.long())


def split_pairs(sizes: torch.Tensor):
    """Consecutive parts of the numbers 0 ... P - 1 whose counts (P,) fit into COUNT_BYTES together."""
    if not len(sizes):
        return ()
    _, lengths = (sizes.cumsum(0) * 8 // scale_bytes(COUNT_BYTES, sizes.device)).unique_consecutive(return_counts=True)
    return torch.arange(len(sizes), device=sizes.device).split(lengths.tolist())


def count_masks(maps, limits, lowest, labels: LabelBlock, image):
    """Yield (image, pairs, counts (P', V, C'), areas (P', V)) for the consecutive pairs of each image of a block.

    They are pixels of the image's concepts under each mask, and pixels of the mask, float64, for P maps (P, h, w)
    on the images `image` (P,) (ascending). `limits` (P, V) are thresholds, ascending; what does not exceed
    `lowest` (P,) is left out.
    """
    versions, pixels = limits.shape[1], labels.size[0] * labels.size[1]
    regions = labels.regions[image]
    ends = (versions * regions).cumsum(0)
    counted = torch.zeros(int(ends[-1]), dtype=torch.int64, device=maps.device)
    start, first = ends - versions * regions, image * pixels
    for pair, pixel, value in mask_pixels(maps, lowest, labels.size):
        cell = start[pair] + labels.ids[first[pair] + pixel]
        if versions > 1:
            above = torch.zeros(len(value), dtype=torch.int16, device=value.device)
            for limit in limits[:, 1:].unbind(1):
                above += value > limit.contiguous()[pair]
            cell += regions[pair] * above
        counted += torch.bincount(cell, minlength=len(counted))
    numbers, lengths = (part.tolist() for part in image.unique_consecutive(return_counts=True))
    shapes = [(length, versions, len(labels.images[n].matrix)) for n, length in zip(numbers, lengths, strict=True)]
    stop = 0
    for number, shape, flat in zip(numbers, shapes, counted.split([math.prod(s) for s in shapes]), strict=True):
        counts = flat.view(shape).double()  # (P', V, R)
        if versions > 1:  # from those between two limits to those above each
            counts = counts.flip(1).cumsum(1).flip(1)
        yield number, slice(stop, stop + shape[0]), counts @ labels.images[number].matrix, counts.sum(2)
        stop += shape[0]


def add_areas(tally: Tally, labels: LabelBlock, weights: torch.Tensor, place: torch.Tensor):
    """Add the concepts' areas in images `place` (B',) of a block to a tally of V versions, `weights` (V, B') times."""
    for image, times in zip(place.tolist(), weights.T, strict=True):
        of = labels.images[image]
        tally.concept_area.index_add_(1, of.concepts, times[:, None] * of.areas)


def compute_iou(tally: Tally, category_of: torch.Tensor, rule: str = "published") -> np.ndarray:
    """IoU of every unit with every concept, float64 (U, L); 0 where nothing meets.

    `published`: the union counts a unit's mask only in images where it meets a pixel of the
    concept's primary category, as the published code does. `equation4`: the plain union of
    Eq. 4 of the paper.
    """
    both = tally.intersection.double()  # (U, L)
    area = tally.unit_area[:, category_of] if rule == "published" else tally.unit_total[:, None]
    union = area.double() + tally.concept_area.double()[None] - both
    iou = torch.where(union > 0, both / union.clamp(min=1), 0.0)
    return iou.cpu().numpy()


def best_labels(iou: np.ndarray, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best concepts of each unit and their IoU, (U, count) each; 0 where none meets.

    Ties go to the lower concept number.
    """
    iou = np.pad(iou, ((0, 0), (0, max(0, count - iou.shape[1]))))  # a probe of few concepts
    order = np.argsort(-iou, axis=1, kind="stable")[:, :count]  # (U, count)
    scores = np.take_along_axis(iou, order, axis=1)
    return np.where(scores > 0, order, 0), scores
