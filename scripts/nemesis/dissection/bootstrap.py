"""The clean probe resampled with replacement; needs no deep learning library."""

import numpy as np

STREAM = 0x6E756C6C  # separates this use of the seed from the others


def resample_weights(count: int, replicate: int, seed: int) -> np.ndarray:
    """How often each of `count` images is drawn in a bootstrap replicate, int64 (count,)."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM, replicate]))
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.int64)
