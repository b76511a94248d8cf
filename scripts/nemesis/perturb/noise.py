"""Random corruption of images (section 3.1 of Srivastava et al., ICCV 2023).

x' = clip(x + n, 0, 1). Every image has its own counter-based stream that depends on the seed,
the image's number in the probe and the kind of noise alone, so order, batch size, workers and
device do not matter, and a larger std scales the same draw.
"""

from dataclasses import dataclass

import numpy as np

from nemesis.perturb.storage import store_image

KINDS = {"gaussian": 1, "uniform": 2, "bernoulli": 3, "none": 0}
CHOICE_STREAM = 0x63686F73


def name_kind(kind: str) -> str:
    """A kind of noise in words."""
    return "storage alone" if kind == "none" else f"{kind} noise"


def name_noise(kind: str, std: float) -> str:
    """A kind and size of noise in words."""
    return name_kind(kind) + ("" if kind == "none" else f", std {std:g}")


def draw_seed(seed: int, draw: int) -> int:
    """One seed from the config's seed and the number of an independent draw."""
    return int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)[0])


def draw_noise(kind: str, std: float, shape, seed: int, number: int) -> np.ndarray:
    """Noise for image `number`, float32 of `shape`, in units of the [0, 1] pixel range.

    gaussian: N(0, std^2); uniform: U(-std, std); bernoulli: -std or +std with equal odds;
    none: zeros (what the storage alone does).
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, number, KINDS[kind]])))
    if kind == "gaussian":
        noise = rng.standard_normal(shape, dtype=np.float32)
    elif kind == "uniform":
        noise = 2 * rng.random(shape, dtype=np.float32) - 1
    elif kind == "bernoulli":
        size = int(np.prod(shape))
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-size // 8)), np.uint8), count=size)
        noise = (2 * bits.astype(np.float32) - 1).reshape(shape)
    else:
        return np.zeros(shape, np.float32)
    return noise * np.float32(std)


def add_noise(image: np.ndarray, kind: str, std: float, seed: int, number: int) -> np.ndarray:
    """Corrupt one uint8 image (3, H, W); returns float32 in [0, 1]."""
    clean = image.astype(np.float32) / np.float32(255)
    return np.clip(clean + draw_noise(kind, std, image.shape, seed, number), 0, 1)


@dataclass(frozen=True)
class StoredNoise:
    """A kind and size of noise, and how the noisy images are stored (see perturb.storage)."""

    kind: str
    std: float
    storage: str

    def corrupt(self, image: np.ndarray, seed: int, number: int) -> np.ndarray:
        """What is read back of image `number`, uint8 (3, H, W), under noise: uint8 (float32 for `float`), alike."""
        return store_image(add_noise(image, self.kind, self.std, seed, number), self.storage)


def choose_images(count: int, fraction: float, seed: int) -> np.ndarray:
    """Numbers (ascending) of the images to corrupt: the nearest whole number to fraction * count.

    The choice for a smaller fraction is a subset of that for a larger one.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, CHOICE_STREAM]))
    return np.sort(rng.permutation(count)[: round(fraction * count)])
