"""How far stored images are from the clean ones."""

from functools import lru_cache

import numpy as np
import torch

from nemesis.stores import blocks

MEASURES = ("linf", "l2", "psnr", "ssim")
WINDOW, SIGMA = 11, 1.5  # of SSIM, Wang et al. 2004
K1, K2 = 0.01, 0.03
MIDDLE = 127.5
PIECE = 32  # windows of a product


def compare_images(clean: np.ndarray, stored: np.ndarray) -> dict[str, np.ndarray]:
    """Each (B,), from clean uint8 and stored (B, 3, H, W) (uint8, or float32 in [0, 1]).

    linf: largest absolute difference, l2: Euclidean norm of it, both in 1/255. psnr: dB, inf where
    nothing differs. ssim: mean structural similarity over channels and the pixels whose window fits.
    """
    before = clean.astype(np.float32)
    after = stored.astype(np.float32) * (1.0 if stored.dtype == np.uint8 else 255.0)
    difference = (after - before).reshape(len(before), -1)
    mse = np.square(difference, dtype=np.float64).mean(axis=1)
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(255.0**2 / mse)
    return {
        "linf": np.abs(difference).max(axis=1).astype(float),
        "l2": np.sqrt(mse * difference.shape[1]),
        "psnr": psnr,
        # One at a time: an image and its blurred planes fit into the processor's cache.
        "ssim": np.array([_ssim(*pair) for pair in zip(*map(torch.from_numpy, (before, after)), strict=True)], float),
    }


def _ssim(before: torch.Tensor, after: torch.Tensor) -> float:
    """Mean SSIM of an image (C, H, W) in [0, 255], gaussian window, population covariance.

    Variances do not change when all values are shifted to the middle, and float32 suffices there.
    """
    before, after = before - MIDDLE, after - MIDDLE
    mean_before, mean_after, square, product = _blur(torch.stack([before, after, before**2 + after**2, before * after]))
    spread = square - mean_before**2 - mean_after**2
    common = product - mean_before * mean_after
    mean_before, mean_after = mean_before + MIDDLE, mean_after + MIDDLE
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    alike = (2 * mean_before * mean_after + c1) / (mean_before**2 + mean_after**2 + c1)
    return float((alike * (2 * common + c2) / (spread + c2)).mean())


def _blur(planes: torch.Tensor) -> torch.Tensor:
    """Gaussian means of (..., H, W) at the pixels whose window fits, (..., H - 10, W - 10).

    As products with pieces of a band matrix, which take less time than a convolution of one channel.
    """
    height, width = (size - WINDOW + 1 for size in planes.shape[-2:])
    along = planes.new_empty(*planes.shape[:-1], width)
    for first, last in blocks(width, PIECE):
        along[..., first:last] = planes[..., first : last + WINDOW - 1] @ _band(last - first).T
    blurred = planes.new_empty(*planes.shape[:-2], height, width)
    for first, last in blocks(height, PIECE):
        torch.matmul(_band(last - first), along[..., first : last + WINDOW - 1, :], out=blurred[..., first:last, :])
    return blurred


@lru_cache(maxsize=2 * PIECE)
def _band(count: int) -> torch.Tensor:
    """Gaussian weights (count, count + WINDOW - 1) of `count` windows side by side."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    matrix = torch.zeros(count, count + WINDOW - 1, dtype=torch.float64)
    for row in range(count):
        matrix[row, row : row + WINDOW] = weights / weights.sum()
    return matrix.float()
