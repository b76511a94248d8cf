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


def compare_images(clean: torch.Tensor, stored: torch.Tensor) -> dict[str, np.ndarray]:
    """Each (B,), from clean uint8 and stored (B, 3, H, W) (uint8, or float32 in [0, 1]), on one device.

    linf: largest absolute difference, l2: Euclidean norm of it, both in 1/255. psnr: dB, inf where
    nothing differs. ssim: mean structural similarity over channels and the pixels whose window fits.
    """
    images = 1 if clean.device.type == "cpu" else len(clean)  # one and its blurred planes fit into a cache
    scale = 1.0 if stored.dtype == torch.uint8 else 255.0
    parts = [
        _compare(before.float(), after.float() * scale)
        for before, after in zip(clean.split(images), stored.split(images), strict=True)
    ]
    largest, mse, ssim = (torch.cat(part).cpu().numpy().astype(float) for part in zip(*parts, strict=True))
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(255.0**2 / mse)
    return {"linf": largest, "l2": np.sqrt(mse * clean[0].numel()), "psnr": psnr, "ssim": ssim}


def _compare(before: torch.Tensor, after: torch.Tensor):
    """Largest absolute difference, mean squared difference and mean SSIM of images (B, C, H, W) in [0, 255].

    SSIM: gaussian window, population covariance. Variances do not change when all values are shifted to the
    middle, and float32 suffices there.
    """
    difference = (after - before).flatten(1)
    largest, mse = difference.abs().amax(1), difference.double().square_().mean(1)
    before, after = before - MIDDLE, after - MIDDLE
    mean_before, mean_after, square, product = _blur(torch.stack([before, after, before**2 + after**2, before * after]))
    spread = square - mean_before**2 - mean_after**2
    common = product - mean_before * mean_after
    mean_before, mean_after = mean_before + MIDDLE, mean_after + MIDDLE
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    alike = (2 * mean_before * mean_after + c1) / (mean_before**2 + mean_after**2 + c1)
    return largest, mse, (alike * (2 * common + c2) / (spread + c2)).flatten(1).mean(1)


def _blur(planes: torch.Tensor) -> torch.Tensor:
    """Gaussian means of (..., H, W) at the pixels whose window fits, (..., H - 10, W - 10).

    As products with pieces of a band matrix, which take less time than a convolution of one channel.
    """
    height, width = (size - WINDOW + 1 for size in planes.shape[-2:])
    device = planes.device
    along = planes.new_empty(*planes.shape[:-1], width)
    for first, last in blocks(width, PIECE):
        along[..., first:last] = planes[..., first : last + WINDOW - 1] @ _band(last - first, device).T
    blurred = planes.new_empty(*planes.shape[:-2], height, width)
    for first, last in blocks(height, PIECE):
        torch.matmul(
            _band(last - first, planes.device),
            along[..., first : last + WINDOW - 1, :],
            out=blurred[..., first:last, :],
        )
    return blurred


@lru_cache(maxsize=2 * PIECE)
def _band(count: int, device: torch.device) -> torch.Tensor:
    """Gaussian weights (count, count + WINDOW - 1) of `count` windows side by side."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    matrix = torch.zeros(count, count + WINDOW - 1, dtype=torch.float64)
    for row in range(count):
        matrix[row, row : row + WINDOW] = weights / weights.sum()
    return matrix.float().to(device)
