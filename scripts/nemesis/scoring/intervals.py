"""How sure is a share of units, or a mean over units?"""

import math

import numpy as np

Z95 = 1.959963984540054
STREAM = 0x626F6F74


def wilson_interval(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval (1927) for a share; (nan, nan) when n is 0."""
    if n == 0:
        return math.nan, math.nan
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap_interval(values, seed: int, replicates: int = 2000) -> tuple[float, float]:
    """95% percentile bootstrap interval for the mean of `values` (one a unit); (nan, nan) when empty."""
    values = np.asarray(values, float)
    if not len(values):
        return math.nan, math.nan
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    means = values[rng.integers(0, len(values), (replicates, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
