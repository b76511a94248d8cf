"""Where in an image an attack pushes activations down (source) or up (target)."""

import numpy as np


def concept_masks(labels: np.ndarray, scalars: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Pixels of concept numbers[b] in image b, on any plane, bool (B, Hs, Ws); number 0 has none.

    `labels` is (B, K, Hs, Ws), `scalars` (B, S): an image-level label covers the image.
    """
    numbers = np.asarray(numbers).astype(labels.dtype)
    masks = (labels == numbers[:, None, None, None]).any(axis=1)
    masks |= (scalars == numbers[:, None]).any(axis=1)[:, None, None]
    masks[numbers == 0] = False
    return masks


def unit_masks(maps: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Cells of maps (B, h, w) above each one's threshold (B,), bool: Eq. 8, at the map's own resolution.

    As in the published code, which takes masks and loss at feature resolution here.
    """
    return maps.astype(np.float32) > np.asarray(thresholds, np.float32)[:, None, None]
