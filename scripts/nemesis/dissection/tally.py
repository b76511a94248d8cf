"""Count where a unit's mask meets each concept, and turn the counts into IoU (Eq. 2 to 4).

Only (unit, image) pairs whose map exceeds the unit's threshold anywhere can have a mask; about
nine in ten do not. Of those that can, the few pixels above the threshold are gathered, and a
bincount gives the pixels of every (pair, concept). No array of units x concepts x pixels exists
at any time.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from nemesis.dissection.masks import mask_pixels

COUNT_BYTES = 2**25  # counts of (pair, concept) held at once


@dataclass(frozen=True)
class LabelBlock:
    """Labels of B images, on the device: everything the tally needs, for any number of units."""

    pixels: torch.Tensor  # (B * Hs * Ws, K) int32, 0 = none
    scalars: torch.Tensor  # (B, S) int64, 0 = none
    size: tuple[int, int]  # (Hs, Ws)
    areas: torch.Tensor  # (B, L) int64: pixels of each concept, counted once a plane


@dataclass(frozen=True)
class Tally:
    """Pixel counts over the images seen so far, on the device.

    A pixel that carries a concept on two planes counts twice, as in the published code.
    """

    intersection: torch.Tensor  # (U, L) pixels of unit mask and concept
    unit_area: torch.Tensor  # (U, C) pixels of the mask, in images where it meets the category
    unit_total: torch.Tensor  # (U,) pixels of the mask in all images
    concept_area: torch.Tensor  # (L,) pixels of the concept


def empty_tally(units: int, category_of: torch.Tensor, categories: int) -> Tally:
    """A tally of nothing; `category_of` (L,) gives each concept's primary category."""
    zeros = torch.zeros
    length, device = len(category_of), category_of.device
    return Tally(
        zeros((units, length), dtype=torch.int64, device=device),
        zeros((units, categories), dtype=torch.int64, device=device),
        zeros((units,), dtype=torch.int64, device=device),
        zeros((length,), dtype=torch.int64, device=device),
    )


def label_block(labels: np.ndarray, scalars: np.ndarray, length: int, device) -> LabelBlock:
    """Lay out labels (B, K, Hs, Ws) and image-level labels (B, S) for `tally_images`."""
    count, planes, height, width = labels.shape
    on_device = torch.from_numpy(labels.astype(np.int32)).to(device)  # (B, K, Hs, Ws)
    whole = torch.from_numpy(scalars.astype(np.int64)).to(device)  # (B, S)
    offsets = torch.arange(count, device=device, dtype=torch.int32) * length
    keys = (on_device + offsets[:, None, None, None]).flatten()
    areas = torch.bincount(keys, minlength=count * length).view(count, length)
    areas.scatter_add_(1, whole, torch.full_like(whole, height * width))
    areas[:, 0] = 0
    pixels = on_device.permute(0, 2, 3, 1).reshape(-1, planes).contiguous()
    return LabelBlock(pixels, whole, (height, width), areas)


def tally_images(
    tally: Tally,
    maps: torch.Tensor,
    thresholds: torch.Tensor,
    labels: LabelBlock,
    category_of: torch.Tensor,
    weights: torch.Tensor | None = None,
):
    """Add the images of one block to `tally`, in place.

    `maps` is (U, B, h, w), float16 or float32; `thresholds` (U,) float32; a mask is the map,
    upsampled bilinearly (align_corners=False) to the label size, strictly above the threshold.
    `weights` (B,) int64 counts an image so many times (bootstrap); 0 leaves it out.
    """
    if weights is None:
        weights = torch.ones(maps.shape[1], dtype=torch.int64, device=maps.device)
    tally.concept_area.add_((labels.areas * weights[:, None]).sum(0))
    highest = maps.amax(dim=(2, 3)).float()  # (U, B)
    pairs = ((highest > thresholds[:, None]) & (weights > 0)).nonzero()  # (P, 2)
    belongs = F.one_hot(category_of, tally.unit_area.shape[1]).float()  # (L, C)
    belongs[0] = 0
    for part in pairs.split(max(1, COUNT_BYTES // (8 * len(category_of)))):
        unit, image = part.unbind(1)
        counts, areas = count_pairs(maps, thresholds, labels, unit, image)  # (P, L), (P,)
        weight = weights[image]
        touched = (counts.float() @ belongs > 0).long()  # (P, C)
        tally.intersection.index_add_(0, unit, counts * weight[:, None])
        tally.unit_area.index_add_(0, unit, touched * (areas * weight)[:, None])
        tally.unit_total.index_add_(0, unit, areas * weight)


def count_pairs(maps, thresholds, labels: LabelBlock, unit, image):
    """Concept pixels under the mask (P, L) and mask area (P,) of each (unit, image) pair."""
    count, length, pixels = len(unit), labels.areas.shape[1], labels.size[0] * labels.size[1]
    areas = torch.zeros(count, dtype=torch.int64, device=maps.device)
    counts = torch.zeros(count * length, dtype=torch.int64, device=maps.device)
    for pair, pixel in mask_pixels(maps[unit, image].float(), thresholds[unit], labels.size):
        areas += torch.bincount(pair, minlength=count)
        rows = labels.pixels[image[pair] * pixels + pixel]  # (M, K)
        keys = (pair * length).int()[:, None] + rows
        counts += torch.bincount(keys.flatten(), minlength=len(counts))
    counts = counts.view(count, length)
    scalars = labels.scalars[image]  # (P, S)
    counts.scatter_add_(1, scalars, areas[:, None].expand_as(scalars))
    counts[:, 0] = 0
    return counts, areas


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
