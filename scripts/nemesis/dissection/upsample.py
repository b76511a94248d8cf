"""Bilinear upsampling (align_corners=False) as matrices: up = rows @ map @ columns.T, one per axis.

Upsampling is linear, so the mean of an upsampled map over a region is a weighted sum of the map's
own cells, and the weights are the region carried down by the transposed matrices.
"""

from functools import lru_cache

import numpy as np

FINE = 64  # pixels of a mask for one of its edge


@lru_cache(maxsize=64)
def bilinear_matrix(cells: int, pixels: int) -> np.ndarray:
    """Weights float32 (pixels, cells) of an axis of `cells` map cells under `pixels` label pixels."""
    position = np.clip((np.arange(pixels) + 0.5) * (cells / pixels) - 0.5, 0, None)
    low = np.minimum(position.astype(np.int64), cells - 1)
    high = np.minimum(low + 1, cells - 1)
    share = (position - low).astype(np.float32)
    matrix = np.zeros((pixels, cells), np.float32)
    rows = np.arange(pixels)
    np.add.at(matrix, (rows, low), 1 - share)
    np.add.at(matrix, (rows, high), share)
    matrix.setflags(write=False)
    return matrix


def upsample(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps (..., h, w) at label size, float32 (..., Hs, Ws)."""
    rows, columns = (bilinear_matrix(cells, pixels) for cells, pixels in zip(maps.shape[-2:], size, strict=True))
    return rows @ maps.astype(np.float32) @ columns.T


def carry_down(regions: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Weights float32 (..., h, w) for which sum(weights * map) = sum(upsampled map over the region (..., Hs, Ws))."""
    rows, columns = (bilinear_matrix(cells, pixels) for cells, pixels in zip(shape, regions.shape[-2:], strict=True))
    return rows.T @ regions.astype(np.float32) @ columns


def find_edge(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask (H, W) next to its edge; the picture's border is no edge."""
    inside = mask
    for _ in range(max(1, round(len(mask) / FINE))):
        framed = np.pad(inside, 1, mode="edge")
        inside = inside & framed[2:, 1:-1] & framed[:-2, 1:-1] & framed[1:-1, 2:] & framed[1:-1, :-2]
    return mask & ~inside
