"""Edges of masks, for pictures."""

import numpy as np

FINE = 64  # pixels of a mask for one of its edge


def find_edge(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask (H, W) next to its edge; the picture's border is no edge."""
    inside = mask
    for _ in range(max(1, round(len(mask) / FINE))):
        framed = np.pad(inside, 1, mode="edge")
        inside = inside & framed[2:, 1:-1] & framed[:-2, 1:-1] & framed[1:-1, 2:] & framed[1:-1, :-2]
    return mask & ~inside
