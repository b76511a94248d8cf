"""How far stored images are from the clean ones."""

from functools import lru_cache

import numpy as np
import torch

MEASURES = ("linf", "l2", "psnr", "ssim")
WINDOW, SIGMA = 11, 1.5  # of SSIM, Wang et al. 2004
K1, K2 = 0.01, 0.03
MIDDLE = 127.5


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
        "ssim": _ssim(torch.from_numpy(before), torch.from_numpy(after)),
    }


def _ssim(before: torch.Tensor, after: torch.Tensor) -> np.ndarray:
    """Mean SSIM of images (B, C, H, W) in [0, 255], gaussian window, population covariance.

    Variances do not change when all values are shifted to the middle, and float32 suffices there.
    """
    down, along = (_blur_matrix(size) for size in before.shape[2:])
    before, after = before - MIDDLE, after - MIDDLE
    blurred = down @ torch.stack([before, after, before**2 + after**2, before * after]) @ along.T
    mean_before, mean_after, square, product = blurred
    spread = square - mean_before**2 - mean_after**2
    common = product - mean_before * mean_after
    mean_before, mean_after = mean_before + MIDDLE, mean_after + MIDDLE
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    alike = (2 * mean_before * mean_after + c1) / (mean_before**2 + mean_after**2 + c1)
    return (alike * (2 * common + c2) / (spread + c2)).mean(dim=(1, 2, 3)).numpy().astype(float)


@lru_cache(maxsize=8)
def _blur_matrix(size: int) -> torch.Tensor:
    """Gaussian weights (size - WINDOW + 1, size) of each window that fits along an axis."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    matrix = torch.zeros(size - WINDOW + 1, size, dtype=torch.float64)
    for row in range(len(matrix)):
        matrix[row, row : row + WINDOW] = weights / weights.sum()
    return matrix.float()
