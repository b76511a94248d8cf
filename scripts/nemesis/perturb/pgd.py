"""Steps along the signs of a gradient inside an L-infinity ball, whatever the gradient is of.

PGD of Madry et al. (ICLR 2018) and FGSM of Goodfellow et al. (ICLR 2015), and their rounding to 8-bit differences.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from nemesis.perturb.poison import Differences

Gradient = Callable[[torch.Tensor], torch.Tensor]  # images (B, 3, H, W) -> gradient of the cost at them, alike


def pgd(images: torch.Tensor, gradient: Gradient, eps, steps: int = 10, step_size: float | None = None) -> torch.Tensor:
    """Projected gradient descent from the clean images; the last iterate, (B, 3, H, W), detached.

    images: float (B, 3, H, W) in [0, 1], which are not altered. eps: (B,) or one number, in the same range: how far a
    value may move. step_size: of a step, as a share of eps (default 2 / steps). Each image moves by its own gradient.
    """
    radius = torch.as_tensor(eps, device=images.device).view(-1, 1, 1, 1)
    lowest, highest = (images - radius).clamp_(min=0), (images + radius).clamp_(max=1)
    step = (2 / steps if step_size is None else step_size) * radius
    moved = images.detach()
    for _ in range(steps):
        moved = moved - step * gradient(moved).sign()
        moved = torch.minimum(torch.maximum(moved, lowest), highest)
    return moved


def fgsm(images: torch.Tensor, gradient: Gradient, eps) -> torch.Tensor:
    """One step of the whole eps; otherwise as `pgd`."""
    return pgd(images, gradient, eps, steps=1, step_size=1.0)


def find_gradient(cost: Callable, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient (B, 3, H, W) at the images of what `cost(images)` sums to, and the costs themselves, (B,) or (1,)."""
    images = images.detach().requires_grad_()
    costs = cost(images)
    return torch.autograd.grad(costs.sum(), images)[0], costs.detach()


def round_inside(clean: np.ndarray, attacked: torch.Tensor, eps: np.ndarray) -> np.ndarray:
    """8-bit difference of attacked (float in [0, 1]) to clean images, int16, inside each one's eps (R,), in 1/255.

    It is computed where `attacked` is.
    """
    limit = np.floor(np.asarray(eps) + 1e-6).astype(np.int16)[:, None, None, None]
    limit, clean = (torch.from_numpy(values).to(attacked.device) for values in (limit, clean))
    delta = (attacked * 255).round_().to(torch.int16).sub_(clean)
    return torch.minimum(torch.maximum(delta, -limit), limit).cpu().numpy()


def round_rows(attacked: Iterable, eps: float, residue: bool = False) -> Differences:
    """What a store keeps of attacked rows: their differences, rounded inside eps (in 1/255).

    attacked: yields (rows, clean uint8 (R', 3, H, W), attacked float in [0, 1]); it is gone through as it is stored.
    residue: keep what rounding took off, for the storages that need it (see perturb.poison).
    """

    def find_parts():
        for rows, clean, images in attacked:
            delta, rest = round_inside(clean, images, np.full(len(images), eps)), None
            if residue:
                exact = images.cpu().numpy() * np.float32(255)
                rest = (exact - clean - delta).astype(np.float16)
            yield rows, delta, rest

    return Differences(eps, residue, find_parts())
