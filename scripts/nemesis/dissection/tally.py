"""Count where a unit's mask meets each concept, and turn the counts into IoU (Eq. 2 to 4).

Only (unit, image) pairs whose map exceeds the unit's threshold anywhere can have a mask; about
nine in ten do not. Of those that can, the few pixels above the threshold are gathered, and a
bincount gives the pixels of every (pair, concept of the image). No array of units x concepts x
pixels exists at any time.

Versions of a probe (bootstrap replicates, shares of corrupted images) differ in thresholds and in how
often an image counts. They are counted together: each pixel once, by how many thresholds it exceeds.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from nemesis.dissection.masks import mask_pixels

COUNT_BYTES = 2**25  # counts of (pair, version, concept) held at once


@dataclass(frozen=True)
class LabelBlock:
    """Labels of B images, on the device: everything the tally needs, for any number of units.

    The concepts of each image are numbered anew from 1, so that counts stay small: `concepts` has the
    numbers behind; places that an image does not need are 0, as is the first.
    """

    pixels: torch.Tensor  # (B * Hs * Ws, K) int16, place in the image's concepts, 0 = none
    scalars: torch.Tensor  # (B, S) int64, likewise
    size: tuple[int, int]  # (Hs, Ws)
    concepts: torch.Tensor  # (B, C') int64
    areas: torch.Tensor  # (B, C') int64: pixels of each concept, counted once a plane

    def area_of(self, numbers) -> torch.Tensor:
        """Pixels of each of T concepts in each image, (B, T); 0 for the number 0."""
        numbers = torch.as_tensor(numbers, device=self.areas.device)
        return ((self.concepts[:, None] == numbers[:, None]) * self.areas[:, None]).sum(2)


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


def label_block(labels: np.ndarray, scalars: np.ndarray, length: int, device) -> LabelBlock:
    """Lay out labels (B, K, Hs, Ws) and image-level labels (B, S) for `tally_images`; `length` is L."""
    count, planes, height, width = labels.shape
    on_device = torch.from_numpy(labels.astype(np.int32)).to(device)  # (B, K, Hs, Ws)
    whole = torch.from_numpy(scalars.astype(np.int64)).to(device)  # (B, S)
    offsets = torch.arange(count, device=device, dtype=torch.int32) * length
    keys = (on_device + offsets[:, None, None, None]).permute(0, 2, 3, 1).reshape(-1, planes)
    areas = torch.bincount(keys.flatten(), minlength=count * length).view(count, length)
    areas.scatter_add_(1, whole, torch.full_like(whole, height * width))
    areas[:, 0] = 0
    image, number = areas.nonzero(as_tuple=True)
    there = (areas > 0).long()
    places = there.cumsum(1) * there  # (B, L)
    concepts = areas.new_zeros(count, 1 + int(there.sum(1).max()))
    concepts[image, places[image, number]] = number
    pixels = places.short().flatten()[keys]
    return LabelBlock(pixels, places.gather(1, whole), (height, width), concepts, areas.gather(1, concepts))


def tally_images(
    tally: Tally, maps: torch.Tensor, thresholds: torch.Tensor, labels: LabelBlock, category_of, weights, place
):
    """Add the maps of some images of a block of labels to a tally of V versions, in place; concepts' areas apart.

    `maps` is (U, B', h, w), float16 or float32; `thresholds` (V, U) float32; a mask is the map, upsampled
    bilinearly (align_corners=False) to the label size, strictly above the threshold. `weights` (V, B') or
    (V, U, B') int64 say how often each version counts a map; 0 leaves it out. `place` (B',) are the images'
    places in the block.
    """
    if weights.ndim == 2:
        weights = weights[:, None].expand(-1, len(maps), -1)
    highest = maps.amax(dim=(2, 3)).float()  # (U, B')
    lowest = torch.where(weights > 0, thresholds[:, :, None], torch.inf).amin(0)  # (U, B')
    found, unit = (highest > lowest).T.nonzero(as_tuple=True)  # (P,) each, image by image
    pairs = Pairs(unit, place[found], thresholds[:, unit].T, weights[:, unit, found].T, lowest[unit, found])
    tally_pairs(tally, lambda part: maps[unit[part], found[part]], pairs, labels, category_of)


@dataclass(frozen=True)
class Pairs:
    """P maps to count: of which unit (P,), on which image of a block of labels (P,), above which thresholds of V
    versions (P, V), how often in each (P, V); `lowest` (P,) of the thresholds where that is not 0.
    """

    unit: torch.Tensor
    image: torch.Tensor
    thresholds: torch.Tensor
    weights: torch.Tensor
    lowest: torch.Tensor


def tally_pairs(tally: Tally, load, pairs: Pairs, labels: LabelBlock, category_of: torch.Tensor):
    """Add P maps to a tally of V versions, in place; `load` gives those of some of them, (P', h, w)."""
    (versions, units, length), categories = tally.intersection.shape, tally.unit_area.shape[2]
    belongs = F.one_hot(category_of, categories).float()  # (L, C)
    belongs[0] = 0
    belongs = belongs[labels.concepts]  # (B, C', C)
    parts = torch.arange(len(pairs.unit), device=category_of.device)
    for part in parts.split(max(1, COUNT_BYTES // (8 * versions * labels.concepts.shape[1]))):
        image = pairs.image[part]
        limits, version = pairs.thresholds[part].sort(dim=1)  # (P', V)
        weight = pairs.weights[part].gather(1, version)
        counts, areas = count_masks(load(part).float(), limits, pairs.lowest[part], labels, image)
        row = (version * units + pairs.unit[part, None]).flatten()  # (P' * V,)
        touched = torch.bmm((counts > 0).float(), belongs[image]) > 0  # (P', V, C)
        areas = areas * weight
        tally.unit_total.view(-1).index_add_(0, row, areas.flatten())
        tally.unit_area.view(-1, categories).index_add_(0, row, (touched * areas[:, :, None]).flatten(0, 1))
        cell = row.view(-1, versions, 1) * length + labels.concepts[image][:, None]  # (P', V, C')
        tally.intersection.view(-1).index_add_(0, cell.flatten(), (counts * weight[:, :, None]).flatten())


def count_masks(maps, limits, lowest, labels: LabelBlock, image):
    """Pixels of each of an image's concepts under each mask (P, V, C') and mask areas (P, V) of P maps (P, h, w).

    `limits` (P, V) are thresholds, ascending; what does not exceed `lowest` (P,) is left out.
    """
    (count, versions), length, pixels = limits.shape, labels.concepts.shape[1], labels.size[0] * labels.size[1]
    areas = torch.zeros(count * versions, dtype=torch.int64, device=maps.device)
    counts = torch.zeros(count * versions * length, dtype=torch.int64, device=maps.device)
    for pair, pixel, value in mask_pixels(maps, lowest, labels.size):
        cell = pair * versions - 1
        for limit in limits.unbind(1):
            cell += value > limit[pair]
        areas += torch.bincount(cell, minlength=len(areas))
        rows = labels.pixels[image[pair] * pixels + pixel]  # (M, K)
        keys = (cell * length).int()[:, None] + rows
        counts += torch.bincount(keys.flatten(), minlength=len(counts))
    areas, counts = areas.view(count, versions), counts.view(count, versions, length)
    if versions > 1:  # from those between two limits to those above each
        areas, counts = (part.flip(1).cumsum(1).flip(1) for part in (areas, counts))
    scalars = labels.scalars[image][:, None].expand(-1, versions, -1)  # (P, V, S)
    counts.scatter_add_(2, scalars, areas[:, :, None].expand_as(scalars))
    counts[:, :, 0] = 0
    return counts, areas


def add_areas(tally: Tally, labels: LabelBlock, weights: torch.Tensor, place: torch.Tensor):
    """Add the concepts' areas in images `place` (B',) of a block to a tally of V versions, `weights` (V, B') times."""
    areas = labels.areas[place] * weights[:, :, None]  # (V, B', C')
    concepts = labels.concepts[place].flatten()
    for total, part in zip(tally.concept_area, areas, strict=True):
        total.index_add_(0, concepts, part.flatten())


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
