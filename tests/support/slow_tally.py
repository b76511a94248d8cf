"""Network Dissection written straight from the paper, with loops; the tests compare the library with it."""

import numpy as np
import torch
import torch.nn.functional as F


def slow_mask(image_map, threshold, size):
    """Eq. 2: one activation map (h, w), upsampled bilinearly to `size`, strictly above the threshold."""
    upsampled = F.interpolate(
        torch.from_numpy(image_map)[None, None].float(), size, mode="bilinear", align_corners=False
    )
    return upsampled[0, 0].numpy() > np.float32(threshold)


def slow_tally(maps, thresholds, planes, category_of, categories, size):
    """Counts of maps (U, N, h, w); planes[n] are image n's label planes, image-level labels spread out.

    Returns intersection (U, L), unit_area (U, C) over images where the mask meets the category,
    unit_total (U,) and concept_area (L,). A label on two planes counts twice.
    """
    units, count, length = len(maps), maps.shape[1], len(category_of)
    intersection = np.zeros((units, length), np.int64)
    unit_area, unit_total = np.zeros((units, categories), np.int64), np.zeros(units, np.int64)
    concept_area = np.zeros(length, np.int64)
    for image in range(count):
        for plane in planes[image]:
            for label in np.unique(plane[plane > 0]):
                concept_area[label] += (plane == label).sum()
        for unit in range(units):
            mask = slow_mask(maps[unit, image], thresholds[unit], size)
            unit_total[unit] += mask.sum()
            met = set()
            for plane in planes[image]:
                for label in np.unique(plane[mask]):
                    if label:
                        intersection[unit, label] += (plane[mask] == label).sum()
                        met.add(int(category_of[label]))
            for category in met:
                unit_area[unit, category] += mask.sum()
    return intersection, unit_area, unit_total, concept_area


def slow_iou(intersection, area, concept_area):
    """IoU (U, L) for a unit's area (U, L); 0 where nothing meets."""
    iou = np.zeros(intersection.shape)
    for unit, label in zip(*intersection.nonzero(), strict=True):
        both = intersection[unit, label]
        iou[unit, label] = both / (area[unit, label] + concept_area[label] - both)
    return iou
